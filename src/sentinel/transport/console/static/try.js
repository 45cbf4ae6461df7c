"use strict";
// Try it: the fields and the JSON say the same, whichever is changed.

const text = document.getElementById("transaction");
const wrong = document.getElementById("wrong");
const fields = [...document.querySelectorAll("[data-field]")];
const random = () => [...crypto.getRandomValues(new Uint8Array(8))].map((one) => String.fromCharCode(97 + (one % 26))).join("");

function read() {
  try {
    const found = JSON.parse(text.value);
    text.setAttribute("aria-invalid", "false");
    wrong.textContent = "";
    return found;
  } catch (error) {
    text.setAttribute("aria-invalid", "true");
    wrong.textContent = `This is no JSON: ${error.message}`;
    return null;
  }
}

function write(name, value) {
  const found = read() ?? {};
  if (value === undefined) delete found[name]; else found[name] = value;
  text.value = JSON.stringify(found, null, 2);
  read();
}

for (const field of fields) {
  field.addEventListener("input", () => {
    const given = field.value.trim();
    const isNumber = field.dataset.kind === "number" && given !== "" && Number.isFinite(Number(given));
    write(field.dataset.field, given === "" ? undefined : isNumber ? Number(given) : given);
  });
}

text.addEventListener("input", () => {
  const found = read();
  if (found) for (const field of fields) field.value = found[field.dataset.field] ?? "";
});

document.getElementById("new-id").addEventListener("click", () => {
  const field = fields.find((one) => one.dataset.field === text.dataset.id);
  field.value = `try-${random()}`;
  field.dispatchEvent(new Event("input"));
});

document.getElementById("now").addEventListener("click", () => {
  const field = fields.find((one) => one.dataset.kind === "time");
  field.value = new Date().toISOString();
  field.dispatchEvent(new Event("input"));
});
