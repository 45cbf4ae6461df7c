-- Writes features of keys, each only where nothing newer stands; returns how many were written.
-- KEYS: the hashes. ARGV: 1 to write what is as new as well, else 0; the field with the moment; how many features; their
-- fields; then for each key its moment, when it expires (milliseconds since 1970, or empty), and its values.
local function moment(text)
  local found, at = {[8] = 0, [16] = 0}, 1
  while at < #text do
    local tag, value, inverse, scale, bytes = text:byte(at), 0, 0, 1, 0
    repeat
      at, bytes = at + 1, bytes + 1
      local byte = text:byte(at) or 0
      value = value + (byte % 128) * scale
      inverse = inverse + (127 - byte % 128) * scale
      scale = bytes < 9 and scale * 128 or 0
    until byte < 128
    found[tag] = bytes == 10 and -inverse - 1 or value -- before 1970 all 64 bits are used, and no number here has them
    at = at + 1
  end
  return found[8], found[16]
end

local takes_equal, moment_field, n, written = ARGV[1] == '1', ARGV[2], tonumber(ARGV[3]), 0
for number, key in ipairs(KEYS) do
  local at = 3 + n + (number - 1) * (n + 2)
  local had, wins = redis.call('HGET', key, moment_field), true
  if had then
    local s0, n0 = moment(had)
    local s1, n1 = moment(ARGV[at + 1])
    wins = s1 > s0 or (s1 == s0 and (n1 > n0 or (n1 == n0 and takes_equal)))
  end
  if wins then
    local set = {key, moment_field, ARGV[at + 1]}
    for feature = 1, n do
      set[#set + 1] = ARGV[3 + feature]
      set[#set + 1] = ARGV[at + 2 + feature]
    end
    redis.call('HSET', unpack(set))
    if ARGV[at + 2] ~= '' then redis.call('PEXPIREAT', key, ARGV[at + 2]) end
    written = written + 1
  end
end
return written
