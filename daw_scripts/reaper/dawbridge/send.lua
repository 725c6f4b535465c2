-- Renders the selected items, else the time selection, else the selected tracks, without a dialog, and puts each file
-- into the inbox with a sidecar that tells the project's tempo map and position. The file grows in a hidden folder; it
-- gets its final name last, after its sidecar. Whatever happens, every render setting, selection, cursor and view is
-- put back.
-- GPL-3.0-or-later

local RENDER = 42230 -- "File: Render project, using the most recent render settings, auto-close render dialog"
local WAV_24_BIT = "ZXZhdxgAAQ==" -- "evaw", 24 bits, with a bext chunk, RF64 where it grows past 4 GB
local MASTER_MIX, ITEMS_VIA_MASTER, TRACKS_VIA_MASTER, AS_ONE_FILE = 0, 64, 128, 4 << 16 -- RENDER_SETTINGS
local CUSTOM_RANGE, SELECTED_ITEMS = 0, 4 -- RENDER_BOUNDSFLAG
local NUMBERS = {
  "RENDER_SETTINGS", "RENDER_BOUNDSFLAG", "RENDER_CHANNELS", "RENDER_SRATE", "RENDER_STARTPOS", "RENDER_ENDPOS",
  "RENDER_TAILFLAG", "RENDER_TAILMS", "RENDER_ADDTOPROJ", "RENDER_DITHER", "RENDER_NORMALIZE",
  "RENDER_NORMALIZE_TARGET", "RENDER_BRICKWALL", "RENDER_FADEIN", "RENDER_FADEOUT", "RENDER_FADEINSHAPE",
  "RENDER_FADEOUTSHAPE", "RENDER_PADSTART", "RENDER_PADEND", "RENDER_TRIMSTART", "RENDER_TRIMEND", "RENDER_DELAY",
}
local TEXTS = { "RENDER_FILE", "RENDER_PATTERN", "RENDER_FORMAT", "RENDER_FORMAT2" }
local MOST_NAME = 60
local MOST_TEXT = 500 -- of project and track in the sidecar
local SHORTEST_S = 0.01
local OFF_S = 0.05 -- how far a rendered length may be off
local ROLES = {
  vox = "vocals", vocal = "vocals", vocals = "vocals", acapella = "vocals",
  drum = "drums", drums = "drums", bass = "bass",
}

return function(core)
  local json, tempo, wav = core.use("json"), core.use("tempo"), core.use("wav")
  local send = {}

  local function track_name(track)
    local _, name = reaper.GetSetMediaTrackInfo_String(track, "P_NAME", "", false)
    return name
  end

  -- The role that a track's name tells; nil where it tells none, or two ("Bass Drum").
  local function role_of(name)
    local role
    for word in name:lower():gmatch("%a+") do
      local found = ROLES[word]
      if found and role and found ~= role then return nil end
      role = found or role
    end
    return role
  end

  local function selected_items()
    local items = {}
    for index = 0, reaper.CountMediaItems(0) - 1 do
      local item = reaper.GetMediaItem(0, index)
      if reaper.IsMediaItemSelected(item) then items[#items + 1] = item end
    end
    return items
  end

  local function selected_tracks()
    local tracks = {}
    for index = 0, reaper.CountTracks(0) - 1 do
      local track = reaper.GetTrack(0, index)
      if reaper.IsTrackSelected(track) then tracks[#tracks + 1] = track end
    end
    return tracks
  end

  local function span_of(items)
    local start, stop = math.huge, 0
    for _, item in ipairs(items) do
      local position = reaper.GetMediaItemInfo_Value(item, "D_POSITION")
      start = math.min(start, position)
      stop = math.max(stop, position + reaper.GetMediaItemInfo_Value(item, "D_LENGTH"))
    end
    return start, stop
  end

  local function of_items(items)
    local start, stop = span_of(items)
    local track = reaper.GetMediaItem_Track(items[1])
    for _, item in ipairs(items) do
      if reaper.GetMediaItem_Track(item) ~= track then
        track = nil
        break
      end
    end
    return {
      what = #items == 1 and "1 selected item" or #items .. " selected items",
      settings = ITEMS_VIA_MASTER | (#items > 1 and AS_ONE_FILE or 0),
      bounds = SELECTED_ITEMS,
      start = start, stop = stop,
      track = track and track_name(track) or "",
    }
  end

  local function of_track(track, index)
    local name = track_name(track)
    return {
      what = "track " .. (name ~= "" and name or index),
      settings = TRACKS_VIA_MASTER,
      bounds = CUSTOM_RANGE,
      start = 0, stop = reaper.GetProjectLength(0),
      track = name,
      only = track,
    }
  end

  -- What the musician has chosen, one entry for each file.
  local function chosen()
    local items = selected_items()
    if #items > 0 then return { of_items(items) } end
    local start, stop = reaper.GetSet_LoopTimeRange2(0, false, false, 0, 0, false)
    if stop > start then
      return {
        {
          what = "the time selection", settings = MASTER_MIX, bounds = CUSTOM_RANGE,
          start = start, stop = stop, track = "", role = "mix",
        },
      }
    end
    local takes = {}
    for index, track in ipairs(selected_tracks()) do takes[index] = of_track(track, index) end
    if #takes == 0 then core.fail("Nothing is selected. Select items, a time range or tracks, then send.") end
    return takes
  end

  local function number_setting(key)
    return reaper.GetSetProjectInfo(0, key, 0, false)
  end

  local function text_setting(key)
    local _, text = reaper.GetSetProjectInfo_String(0, key, "", false)
    return text
  end

  -- Remembers every render setting; calling what it returns puts back what has changed.
  local function remember_render_settings()
    local numbers, texts = {}, {}
    for _, key in ipairs(NUMBERS) do numbers[key] = number_setting(key) end
    for _, key in ipairs(TEXTS) do texts[key] = text_setting(key) end
    return function()
      for _, key in ipairs(NUMBERS) do
        if number_setting(key) ~= numbers[key] then reaper.GetSetProjectInfo(0, key, numbers[key], true) end
      end
      for _, key in ipairs(TEXTS) do
        if text_setting(key) ~= texts[key] then reaper.GetSetProjectInfo_String(0, key, texts[key], true) end
      end
    end
  end

  -- Settings not named here (fades, limits, padding) take no part while RENDER_NORMALIZE is 0. What is rendered is
  -- set before its bounds, which depend on it.
  local function set_up(take, folder, name)
    local numbers = {
      RENDER_SETTINGS = take.settings, RENDER_BOUNDSFLAG = take.bounds,
      RENDER_STARTPOS = take.start, RENDER_ENDPOS = take.stop,
      RENDER_SRATE = 0, -- the project's
      RENDER_CHANNELS = 2, RENDER_TAILFLAG = 0, RENDER_ADDTOPROJ = 0, RENDER_DITHER = 0, RENDER_NORMALIZE = 0,
    }
    local texts = {
      RENDER_FILE = core.native(folder), RENDER_PATTERN = name, RENDER_FORMAT = WAV_24_BIT, RENDER_FORMAT2 = "",
    }
    for _, key in ipairs(NUMBERS) do
      if numbers[key] then reaper.GetSetProjectInfo(0, key, numbers[key], true) end
    end
    for _, key in ipairs(TEXTS) do reaper.GetSetProjectInfo_String(0, key, texts[key], true) end
    if take.only then reaper.SetOnlyTrackSelected(take.only) end
  end

  -- Fails before anything is written if REAPER would write more than one file.
  local function check_targets(name)
    local known, targets = reaper.GetSetProjectInfo_String(0, "RENDER_TARGETS", "", false)
    local _, files = targets:gsub(name, "")
    if known and files > 1 then
      core.fail("This REAPER renders the selection as %d files. Glue the items, or select a time range.", files)
    end
  end

  -- The rendered file's facts; the file is removed where it isn't what was asked for.
  local function render(take, path)
    reaper.Main_OnCommand(RENDER, 0)
    local facts = wav.facts(path)
    if not facts or facts.frames == 0 then
      os.remove(core.native(path))
      core.fail("REAPER did not render %s: it was cancelled, or its disk is full.", take.what)
    end
    local wanted, got = take.stop - take.start, facts.frames / facts.rate_hz
    if math.abs(wanted - got) > OFF_S then
      os.remove(core.native(path))
      core.fail("REAPER rendered %.2f s of %s in place of %.2f s, so it is not sent.", got, take.what, wanted)
    end
    return facts
  end

  local function plain(text)
    text = text:gsub("[^%w ._()-]+", "_"):gsub("^[ ._-]+", ""):sub(1, MOST_NAME):gsub("[ ._-]+$", "")
    return text
  end

  -- The project's part of a file's name; Windows refuses files named after its devices.
  local function plain_project()
    local name = core.project_name()
    local base = name ~= core.UNSAVED and plain(name) or ""
    if base:lower():match("^[clapn][opru][mtnxl]%d?$") then base = "song_" .. base end
    return base ~= "" and base or "reaper"
  end

  -- A name that nothing in the inbox has yet.
  local function free_name(inbox, take)
    local base, track = plain_project(), plain(take.role or take.track)
    if take.role ~= "mix" and track ~= "" then base = base .. "_" .. track end
    local number, name = 1, base
    while core.exists(inbox .. "/" .. name .. ".wav") or core.exists(inbox .. "/" .. name .. ".wav.dawbridge.json") do
      number = number + 1
      name = base .. " " .. number
    end
    return name .. ".wav"
  end

  -- At most MOST_TEXT bytes, and no half character at the end.
  local function short(text)
    if #text <= MOST_TEXT then return text end
    return text:sub(1, (utf8.offset(text, 0, MOST_TEXT + 1) or MOST_TEXT + 1) - 1)
  end

  local function sidecar_of(take, facts)
    local told, line = tempo.of_range(take.start, take.start + facts.frames / facts.rate_hz, facts.rate_hz)
    local sidecar = {
      schema = 1,
      tempo = told,
      start_frames = math.floor(take.start * facts.rate_hz + 0.5),
      role = take.role,
      project = short(core.project_name()),
      track = take.track ~= "" and short(take.track) or nil,
    }
    return json.encode(sidecar) .. "\n", line
  end

  -- Gives the rendered file its name in the inbox, its sidecar first.
  local function hand_over(take, facts, path, inbox)
    local name = free_name(inbox, take)
    local text, line = sidecar_of(take, facts)
    local beside = inbox .. "/" .. name .. ".dawbridge.json"
    core.write_file(beside, text)
    local moved, why = os.rename(core.native(path), core.native(inbox .. "/" .. name))
    if not moved then
      os.remove(core.native(beside))
      os.remove(core.native(path))
      core.fail("%s can't be put into %s (%s).", name, inbox, tostring(why))
    end
    core.remember_sent(name)
    return ("%s as %s%s"):format(take.what, name, line ~= "" and " (" .. line .. ")" or "")
  end

  local function send_one(take, inbox)
    if take.stop - take.start < SHORTEST_S then
      core.fail("There is nothing to render: %s lasts %.3f s.", take.what, math.max(take.stop - take.start, 0))
    end
    take.role = take.role or role_of(take.track)
    local folder, name = inbox .. "/.dawbridge", "send" .. core.new_id()
    set_up(take, folder, name)
    check_targets(name)
    local path = folder .. "/" .. name .. ".wav"
    return hand_over(take, render(take, path), path, inbox)
  end

  -- Sends what is selected; the line that says what was sent. Fails with one line, and nothing half sent.
  function send.run()
    core.check_project()
    local inbox = core.paths().inbox
    local takes = chosen()
    core.check_writable(inbox, "inbox")
    reaper.RecursiveCreateDirectory(core.native(inbox .. "/.dawbridge"), 0)
    local restore_view, restore_settings = core.remember_view(), remember_render_settings()
    local sent = {}
    core.finally(function()
      for index, take in ipairs(takes) do sent[index] = send_one(take, inbox) end
    end, function()
      restore_settings()
      restore_view()
    end)
    return "Sent " .. table.concat(sent, ", ") .. "."
  end

  return send
end
