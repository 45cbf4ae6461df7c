"use strict";
// Before anything is drawn: the theme that was chosen here, if one was; else what the system says.
const chosenTheme = localStorage.getItem("theme");
if (chosenTheme === "light" || chosenTheme === "dark") document.documentElement.dataset.theme = chosenTheme;
