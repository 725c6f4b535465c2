-- What the header of a WAV file says: rate, channels and frames. Only the chunks' heads are read.
-- GPL-3.0-or-later

local MOST_CHUNKS = 200
local IN_DS64 = 0xFFFFFFFF -- the true size of an RF64 file stands in its ds64 chunk

return function(core)
  local wav = {}

  local function read_chunks(file)
    local found, data_bytes_64 = {}, nil
    for _ = 1, MOST_CHUNKS do
      local head = file:read(8)
      if not head or #head < 8 then break end
      local name, bytes = ("<c4I4"):unpack(head)
      local at = file:seek()
      if name == "ds64" then
        local sizes = file:read(16)
        if sizes and #sizes == 16 then data_bytes_64 = ("<I8"):unpack(sizes, 9) end
      elseif name == "fmt " then
        local format = file:read(16)
        if format and #format == 16 then
          local _, channels, rate, _, frame_bytes = ("<I2I2I4I4I2"):unpack(format)
          found.channels, found.rate, found.frame_bytes = channels, rate, frame_bytes
        end
      elseif name == "data" then
        if bytes == IN_DS64 and data_bytes_64 then bytes = data_bytes_64 end
        found.data_bytes, found.data_at = bytes, at
        break -- what follows the samples is not needed
      end
      file:seek("set", at + bytes + bytes % 2)
    end
    return found
  end

  -- {rate_hz, channels, frames, bytes}, or nil where the file is no whole WAV file.
  function wav.facts(path)
    local file = io.open(core.native(path), "rb")
    if not file then return nil end
    local riff = file:read(12) or ""
    local found = {}
    if riff:match("^RIFF....WAVE$") or riff:match("^RF64....WAVE$") then found = read_chunks(file) end
    local bytes = file:seek("end")
    file:close()
    if not (found.rate and found.rate > 0 and found.frame_bytes > 0 and found.data_bytes) then return nil end
    if found.data_at + found.data_bytes > bytes then return nil end -- cut off
    return {
      rate_hz = found.rate,
      channels = found.channels,
      frames = found.data_bytes // found.frame_bytes,
      bytes = bytes,
    }
  end

  return wav
end
