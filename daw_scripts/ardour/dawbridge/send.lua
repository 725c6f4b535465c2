-- Exports the selected range, else the whole session, through the master bus, faster than real time and without a
-- dialog, and hands it to the inbox: sidecar first, then the audio's own name. The session isn't changed.
-- GPL-3.0-or-later

-- 24 bits at the session's rate: of Ardour's own presets, the only WAV at that rate has 16 bits. Both files are written
-- into Ardour's folder of the user's export presets, where the export dialog shows them too.
local FORMAT_ID, PRESET_ID = "5f0a6f52-0a44-4c1e-9d0e-6d4b8f2c7a11", "5f0a6f52-0a44-4c1e-9d0e-6d4b8f2c7a12"
local FORMAT = [[<?xml version="1.0" encoding="UTF-8"?>
<ExportFormatSpecification name="dawbridge" id="%s" with-cue="false" with-toc="false" with-mp4chaps="false" command="" analyse="false" soundcloud-upload="false">
  <Encoding id="F_WAV" type="T_Sndfile" extension="wav" name="BWF" has-sample-format="true" channel-limit="256"/>
  <SampleRate rate="1"/>
  <SRCQuality quality="SRC_SincBest"/>
  <EncodingOptions>
    <Option name="sample-format" value="SF_24"/>
    <Option name="dithering" value="D_None"/>
    <Option name="tag-metadata" value="false"/>
    <Option name="tag-support" value="false"/>
    <Option name="broadcast-info" value="true"/>
  </EncodingOptions>
  <Processing>
    <Normalize enabled="false" loudness="no" dbfs="0" lufs="-23" dbtp="-1"/>
    <Silence>
      <Start><Trim enabled="false"/><Add enabled="false"><Duration format="Timecode" hours="0" minutes="0" seconds="0" frames="0"/></Add></Start>
      <End><Trim enabled="false"/><Add enabled="false"><Duration format="Timecode" hours="0" minutes="0" seconds="0" frames="0"/></Add></End>
    </Silence>
  </Processing>
</ExportFormatSpecification>
]]
local PRESET = [[<?xml version="1.0" encoding="UTF-8"?>
<ExportPreset id="%s" name="dawbridge">
  <ExportFormat id="%s"/>
  <ExportFilename>
    <Folder relative="1" path="export"/>
    <Field name="label" enabled="0"/>
    <Field name="session" enabled="0"/>
    <Field name="snapshot" enabled="0"/>
    <Field name="timespan" enabled="1"/>
    <Field name="revision" enabled="0"/>
    <Field name="time" enabled="0" value="T_None"/>
    <Field name="date" enabled="0" value="D_None"/>
  </ExportFilename>
</ExportPreset>
]]
local ATTEMPTS = 3
local SHORTEST_S = 0.1
local MOST_NAME = 60
local MOST_TEXT = 500 -- of the sidecar

return function(core)
  local json, tempo, wav = core.use("json"), core.use("tempo"), core.use("wav")
  local send = {}

  -- {start, stop, what}, in frames of the timeline.
  local function chosen()
    local times = Editor:get_selection().time
    local start, stop = times:start_sample(), times:end_sample()
    if stop > start then return { start = start, stop = stop, what = "the selected range" } end
    local range = Session:locations():session_range_location()
    if not range then core.fail("The session is empty: there is nothing to export.") end
    return { start = range:start():samples(), stop = range:_end():samples(), what = "the session" }
  end

  -- Windows refuses files named after its devices.
  local function plain_session()
    local name = Session:name():gsub("[^%w ._()-]+", "_"):gsub("^[ ._-]+", ""):sub(1, MOST_NAME):gsub("[ ._-]+$", "")
    if name:lower():match("^[clapn][opru][mtnxl]%d?$") then name = "song_" .. name end
    return name ~= "" and name or "ardour"
  end

  -- A name that nothing in the inbox has yet.
  local function free_name(inbox)
    local base = plain_session()
    local number, name = 1, base
    while core.exists(inbox .. "/" .. name .. ".wav") or core.exists(inbox .. "/" .. name .. ".wav.dawbridge.json") do
      number = number + 1
      name = base .. " " .. number
    end
    return name .. ".wav"
  end

  -- An export job with our preset. Ardour reads preset files when a job is made, so they must stand before.
  local function new_job()
    local folder = ARDOUR.user_config_directory(-1) .. "/export"
    local files = { ["dawbridge.format"] = FORMAT:format(FORMAT_ID), ["dawbridge.preset"] = PRESET:format(PRESET_ID, FORMAT_ID) }
    for name, text in pairs(files) do
      local path = folder .. "/" .. name
      if core.read_file(path) ~= text then
        Session:simple_export():set_folder(folder) -- makes it; Lua itself can't
        core.write_file(path, text)
      end
    end
    local job = Session:simple_export()
    if not job:set_preset(PRESET_ID) then core.fail("Ardour does not read its export presets in %s.", folder) end
    return job
  end

  -- What became of one export: facts, or nil and why.
  local function try(take, folder, name, path)
    local job = new_job()
    job:set_folder(folder)
    job:set_name(name)
    job:set_range(take.start, take.stop)
    if not job:check_outputs() then core.fail("The session has no master bus, so %s can't be exported.", take.what) end
    if not job:run_export() then return nil, "it was cancelled, or its disk is full" end
    local facts = wav.facts(path)
    if not facts then return nil, path .. " is no whole WAV file" end
    if math.abs(facts.frames - (take.stop - take.start)) > 1 then
      return nil, ("it wrote %d frames in place of %d"):format(facts.frames, take.stop - take.start)
    end
    return facts
  end

  -- The exported file's facts and path; the file is removed where it isn't what was asked for. Ardour breaks an export off
  -- when its audio engine stumbles while it changes to rendering, so a failed one is tried again.
  local function export(take, folder, name)
    local path, facts, why = folder .. "/" .. name .. ".wav", nil, nil
    for _ = 1, ATTEMPTS do
      facts, why = try(take, folder, name, path)
      if facts then return facts, path end
      os.remove(path)
    end
    core.fail("Ardour did not export %s: %s.", take.what, why)
  end

  -- At most MOST_TEXT bytes, and no half character at the end.
  local function short(text)
    if #text <= MOST_TEXT then return text end
    return text:sub(1, (utf8.offset(text, 0, MOST_TEXT + 1) or MOST_TEXT + 1) - 1)
  end

  local function sidecar_of(take, facts)
    local told, line = tempo.of_range(take.start, take.stop, facts.rate_hz)
    local sidecar = {
      schema = 1, tempo = told, start_frames = take.start, role = "mix", project = short(Session:name()),
    }
    return json.encode(sidecar) .. "\n", line
  end

  -- Sends what is selected; the line that says what was sent. Fails with one line, and nothing half sent.
  function send.run()
    core.check_session()
    local inbox, take = core.paths().inbox, chosen()
    if take.stop - take.start < SHORTEST_S * Session:nominal_sample_rate() then
      core.fail("There is nothing to export: %s is shorter than %.1f s.", take.what, SHORTEST_S)
    end
    core.check_writable(inbox, "inbox")
    local facts, path = export(take, inbox .. "/.dawbridge", "send" .. core.new_id())
    local name = free_name(inbox)
    local beside = inbox .. "/" .. name .. ".dawbridge.json"
    local text, line = sidecar_of(take, facts)
    core.write_file(beside, text)
    local moved, why = os.rename(path, inbox .. "/" .. name)
    if not moved then
      os.remove(beside)
      os.remove(path)
      core.fail("%s can't be put into %s (%s).", name, inbox, tostring(why))
    end
    return ("Sent %s as %s%s."):format(take.what, name, line ~= "" and " (" .. line .. ")" or "")
  end

  return send
end
