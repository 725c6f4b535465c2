-- SHA-256 (FIPS 180-4) in plain Lua: about 1.5 MB/s, so only for small files.
-- GPL-3.0-or-later

local MASK = 0xFFFFFFFF
local BLOCK_BYTES = 64

-- The first 32 bits of the fractional parts of the square or cube roots of the first primes.
local function fractions(count, power)
  local found, number = {}, 2
  while #found < count do
    local is_prime = true
    for divisor = 2, math.floor(math.sqrt(number)) do
      if number % divisor == 0 then
        is_prime = false
        break
      end
    end
    if is_prime then found[#found + 1] = math.floor((number ^ power % 1) * 2 ^ 32) end
    number = number + 1
  end
  return found
end

local START, ROUNDS = fractions(8, 1 / 2), fractions(64, 1 / 3)

local function mixed(state, block, at)
  local w = { (">I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4"):unpack(block, at) }
  for i = 17, 64 do
    local x, y = w[i - 15], w[i - 2]
    x, y = x | x << 32, y | y << 32 -- doubled, so that a shift is a rotation
    w[i] = (w[i - 16] + w[i - 7] + ((x >> 7 ~ x >> 18 ~ (x & MASK) >> 3) & MASK)
      + ((y >> 17 ~ y >> 19 ~ (y & MASK) >> 10) & MASK)) & MASK
  end
  local a, b, c, d, e, f, g, h = table.unpack(state)
  for i = 1, 64 do
    local ee, aa = e | e << 32, a | a << 32
    local one = h + ((ee >> 6 ~ ee >> 11 ~ ee >> 25) & MASK) + ((e & f) ~ (~e & g)) + ROUNDS[i] + w[i]
    local two = ((aa >> 2 ~ aa >> 13 ~ aa >> 22) & MASK) + ((a & b) ~ (a & c) ~ (b & c))
    h, g, f, e, d, c, b, a = g, f, e, (d + one) & MASK, c, b, a, (one + two) & MASK
  end
  local now = { a, b, c, d, e, f, g, h }
  for i = 1, 8 do now[i] = (now[i] + state[i]) & MASK end
  return now
end

return function()
  local sha256 = {}

  -- 64 hex digits of the digest of `text`.
  function sha256.hex(text)
    local padding = "\x80" .. ("\0"):rep((55 - #text) % BLOCK_BYTES) .. (">I8"):pack(#text * 8)
    local padded, state = text .. padding, START
    for at = 1, #padded, BLOCK_BYTES do state = mixed(state, padded, at) end
    return ((">I4"):rep(8):pack(table.unpack(state)):gsub(".", function(char)
      return ("%02x"):format(char:byte())
    end))
  end

  return sha256
end
