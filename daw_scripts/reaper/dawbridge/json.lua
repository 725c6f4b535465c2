-- JSON text <-> Lua tables, as far as dawbridge's files need it. A null in an object is an absent key, in a list it is
-- `json.null`. Text that is no JSON, or nested too deeply, is an error that names the place.
-- GPL-3.0-or-later

local DEEPEST = 64
local ESCAPES = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

return function()
  local json = { null = setmetatable({}, { __tostring = function() return "null" end }) }
  local value -- reads any value; the readers below need it before it stands

  local function fail(at, what)
    error(("no JSON at character %d: %s"):format(at, what), 0)
  end

  local function skip(text, at)
    return text:find("[^ \t\r\n]", at) or #text + 1
  end

  local function code_unit(text, at)
    local digits = text:match("^%x%x%x%x", at)
    if not digits then fail(at, "four hex digits are missing") end
    return tonumber(digits, 16)
  end

  -- The character of the escape \uXXXX whose digits begin at `at`, and where the text goes on.
  local function unicode(text, at)
    local high = code_unit(text, at)
    if high >= 0xD800 and high < 0xDC00 and text:sub(at + 4, at + 5) == "\\u" then
      local low = code_unit(text, at + 6)
      if low >= 0xDC00 and low < 0xE000 then
        return utf8.char(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), at + 10
      end
    end
    if high >= 0xD800 and high < 0xE000 then return "\u{FFFD}", at + 4 end -- half a character
    return utf8.char(high), at + 4
  end

  local function text_value(text, at)
    local parts, from = {}, at + 1
    while true do
      local stop = text:find('["\\\0-\x1F]', from)
      if not stop then fail(at, "a text has no end") end
      parts[#parts + 1] = text:sub(from, stop - 1)
      local char = text:sub(stop, stop)
      if char == '"' then return table.concat(parts), stop + 1 end
      if char ~= "\\" then fail(stop, "a control character inside a text") end
      local escape = text:sub(stop + 1, stop + 1)
      if escape == "u" then
        parts[#parts + 1], from = unicode(text, stop + 2)
      elseif ESCAPES[escape] then
        parts[#parts + 1], from = ESCAPES[escape], stop + 2
      else
        fail(stop, "an unknown escape")
      end
    end
  end

  local function number_value(text, at)
    local digits = text:match("^-?%d+%.?%d*[eE]?[+-]?%d*", at)
    local number = digits and not digits:find("^-?0%d") and not digits:find("%.$") and tonumber(digits)
    if not number then fail(at, "no value") end
    return number, at + #digits
  end

  local function list_value(text, at, depth)
    local list = {}
    at = skip(text, at + 1)
    if text:sub(at, at) == "]" then return list, at + 1 end
    while true do
      local one
      one, at = value(text, at, depth)
      list[#list + 1] = one
      at = skip(text, at)
      local char = text:sub(at, at)
      if char == "]" then return list, at + 1 end
      if char ~= "," then fail(at, "a list goes on without a comma") end
      at = skip(text, at + 1)
    end
  end

  local function object_value(text, at, depth)
    local object = {}
    at = skip(text, at + 1)
    if text:sub(at, at) == "}" then return object, at + 1 end
    while true do
      if text:sub(at, at) ~= '"' then fail(at, "a key is missing") end
      local key, one
      key, at = text_value(text, at)
      at = skip(text, at)
      if text:sub(at, at) ~= ":" then fail(at, "a colon is missing") end
      one, at = value(text, skip(text, at + 1), depth)
      if one ~= json.null then object[key] = one end
      at = skip(text, at)
      local char = text:sub(at, at)
      if char == "}" then return object, at + 1 end
      if char ~= "," then fail(at, "an object goes on without a comma") end
      at = skip(text, at + 1)
    end
  end

  local WORDS = { ["true"] = true, ["false"] = false, ["null"] = json.null }

  function value(text, at, depth)
    if depth > DEEPEST then fail(at, "nested too deeply") end
    local char = text:sub(at, at)
    if char == '"' then return text_value(text, at) end
    if char == "{" then return object_value(text, at, depth + 1) end
    if char == "[" then return list_value(text, at, depth + 1) end
    local word = text:match("^%a+", at)
    if word and WORDS[word] ~= nil then return WORDS[word], at + #word end
    return number_value(text, at)
  end

  -- The value that `text` holds.
  function json.decode(text)
    local found, at = value(text, skip(text, text:sub(1, 3) == "\xEF\xBB\xBF" and 4 or 1), 0)
    at = skip(text, at)
    if at <= #text then fail(at, "something follows the end") end
    return found
  end

  local function quoted(text)
    local escaped = text:gsub('[%c"\\\x7F]', function(char) return ("\\u%04x"):format(char:byte()) end)
    return '"' .. escaped .. '"'
  end

  local function number_text(number)
    if number ~= number or number == math.huge or number == -math.huge then
      error(tostring(number) .. " can't stand in JSON", 0)
    end
    local whole = math.tointeger(number)
    return whole and ("%d"):format(whole) or ("%.15g"):format(number)
  end

  -- The text of a value; tables with a first element are lists, all others are objects. Keys come sorted.
  function json.encode(thing)
    if type(thing) == "string" then return quoted(thing) end
    if type(thing) == "number" then return number_text(thing) end
    if type(thing) == "boolean" or thing == json.null then return tostring(thing) end
    if type(thing) ~= "table" then error("a " .. type(thing) .. " can't stand in JSON", 0) end
    local parts = {}
    if thing[1] ~= nil then
      for _, one in ipairs(thing) do parts[#parts + 1] = json.encode(one) end
      return "[" .. table.concat(parts, ", ") .. "]"
    end
    local keys = {}
    for key in pairs(thing) do keys[#keys + 1] = key end
    table.sort(keys)
    for _, key in ipairs(keys) do parts[#parts + 1] = quoted(key) .. ": " .. json.encode(thing[key]) end
    return "{" .. table.concat(parts, ", ") .. "}"
  end

  return json
end
