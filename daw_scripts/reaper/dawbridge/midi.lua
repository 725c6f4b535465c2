-- A standard MIDI file (type 0 or 1, ticks per quarter note) -> its tracks with notes in seconds from tick 0.
-- The seconds come from the file's own tempo, so that notes sound where the audio of the same song does.
-- GPL-3.0-or-later

local NOTE_OFF, NOTE_ON, PROGRAM, PRESSURE = 0x80, 0x90, 0xC0, 0xD0
local TRACK_NAME, END_OF_TRACK, SET_TEMPO = 0x03, 0x2F, 0x51
local DEFAULT_US = 500000 -- per quarter note: what a file without tempo means

return function(core)
  local midi = {}

  local function variable_length(text, at)
    local number = 0
    for _ = 1, 4 do
      local byte = text:byte(at) or core.fail("a number is cut off")
      number, at = number << 7 | byte & 0x7F, at + 1
      if byte < 0x80 then return number, at end
    end
    core.fail("a number is too long")
  end

  -- Ends the oldest sounding note of this channel and pitch.
  local function note_off(track, sounding, channel, pitch, tick)
    local notes = sounding[channel << 7 | pitch]
    local note = notes and table.remove(notes, 1)
    if note then
      note.stop_tick = tick
      track.notes[#track.notes + 1] = note
    end
  end

  local function channel_event(track, sounding, status, one, two, tick)
    local kind, channel = status & 0xF0, status & 0x0F
    if kind == NOTE_ON and two > 0 then
      local key = channel << 7 | one
      sounding[key] = sounding[key] or {}
      table.insert(sounding[key], { tick = tick, channel = channel, pitch = one, velocity = two })
    elseif kind == NOTE_ON or kind == NOTE_OFF then
      note_off(track, sounding, channel, one, tick)
    elseif kind == PROGRAM then
      track.programs[#track.programs + 1] = { tick = tick, channel = channel, program = one }
    end
  end

  local function meta_event(track, tempi, kind, data, tick)
    if kind == TRACK_NAME and track.name == "" then track.name = data end
    if kind == SET_TEMPO and #data == 3 then
      local us = (">I3"):unpack(data)
      if us > 0 then tempi[#tempi + 1] = { tick = tick, us = us } end
    end
  end

  local function read_track(text, tempi)
    local track, sounding = { name = "", notes = {}, programs = {} }, {}
    local at, tick, status = 1, 0, nil
    while at <= #text do
      local delta
      delta, at = variable_length(text, at)
      tick = tick + delta
      local byte = text:byte(at) or core.fail("an event is cut off")
      if byte >= 0x80 then status, at = byte, at + 1 end
      if not status then core.fail("an event has no kind") end
      if status >= 0xF0 then
        local kind
        if status == 0xFF then kind, at = text:byte(at), at + 1 end
        local bytes
        bytes, at = variable_length(text, at)
        if at + bytes - 1 > #text then core.fail("an event is cut off") end
        if kind == END_OF_TRACK then break end
        if kind then meta_event(track, tempi, kind, text:sub(at, at + bytes - 1), tick) end
        at, status = at + bytes, nil
      else
        local is_short = status & 0xF0 == PROGRAM or status & 0xF0 == PRESSURE
        local one, two = text:byte(at, at + 1)
        if not one or not (is_short or two) then core.fail("an event is cut off") end
        channel_event(track, sounding, status, one, is_short and 0 or two, tick)
        at = at + (is_short and 1 or 2)
      end
    end
    for _, notes in pairs(sounding) do -- a note without an end lasts as long as its track
      while notes[1] do note_off(track, sounding, notes[1].channel, notes[1].pitch, tick) end
    end
    track.end_tick = tick
    return track
  end

  -- A function from ticks to seconds.
  local function clock(tempi, ppq)
    table.sort(tempi, function(a, b) return a.tick < b.tick end)
    local points, now = { { tick = 0, at_s = 0, us = DEFAULT_US } }, nil
    for _, tempo in ipairs(tempi) do
      now = points[#points]
      local at_s = now.at_s + (tempo.tick - now.tick) / ppq * now.us / 1e6
      local point = { tick = tempo.tick, at_s = at_s, us = tempo.us }
      points[tempo.tick == now.tick and #points or #points + 1] = point
    end
    return function(tick)
      local index = #points
      while points[index].tick > tick do index = index - 1 end
      local point = points[index]
      return point.at_s + (tick - point.tick) / ppq * point.us / 1e6
    end
  end

  -- {length_s, tracks = {{name, notes = {{start_s, stop_s, channel, pitch, velocity}}, programs = {{at_s, channel,
  -- program}}}}}: only tracks that hold notes. Fails with what is wrong.
  function midi.read(text)
    if text:sub(1, 4) ~= "MThd" or #text < 14 then core.fail("it is no MIDI file") end
    local head_bytes, kind, _, ppq = (">I4I2I2I2"):unpack(text, 5)
    if kind > 1 or ppq == 0 or ppq >= 0x8000 then core.fail("it is no MIDI file of type 0 or 1 in quarter notes") end
    local tracks, tempi, at, end_tick = {}, {}, 9 + head_bytes, 0
    while at + 7 <= #text do
      local name, bytes = (">c4I4"):unpack(text, at)
      if at + 7 + bytes > #text then core.fail("it is cut off") end
      if name == "MTrk" then
        local track = read_track(text:sub(at + 8, at + 7 + bytes), tempi)
        end_tick = math.max(end_tick, track.end_tick)
        if #track.notes > 0 then tracks[#tracks + 1] = track end
      end
      at = at + 8 + bytes
    end
    local seconds = clock(tempi, ppq)
    for _, track in ipairs(tracks) do
      for _, note in ipairs(track.notes) do
        note.start_s, note.stop_s = seconds(note.tick), seconds(note.stop_tick)
      end
      for _, change in ipairs(track.programs) do change.at_s = seconds(change.tick) end
      table.sort(track.notes, function(a, b)
        if a.tick ~= b.tick then return a.tick < b.tick end
        return a.pitch < b.pitch
      end)
    end
    return { length_s = seconds(end_tick), tracks = tracks }
  end

  return midi
end
