-- Puts a returned song onto new tracks, where its bounce stood, in one undo step. Nothing that exists is touched.
-- Everything is read and checked before the first track is made. A song whose content is in the session already is not
-- loaded a second time: each track's comment says what it holds.
--
-- All tracks come muted, so that nothing doubles what plays. The stems stand in a group of their own: one unmute sounds
-- them all, and they add up to the bounce. Ardour has no undo for new tracks: undo empties them, the next load of that
-- song fills the same tracks again, and `unload` takes them away.
-- GPL-3.0-or-later

local SAME_BPM = 0.05
local MUTE_LIMIT_MS, LOOK_MS = 2000, 5
local STEMS = { vocals = true, drums = true, bass = true, other = true }
local ORDER = {
  "vocals", "drums", "bass", "other", "voice", "backing", "lead", "mix", "new_piece",
  "arrangement_audio", "arrangement", "continuation_audio", "continuation", "notes", "notes_quantised",
}

return function(core)
  local json, manifest, tempo, wav = core.use("json"), core.use("manifest"), core.use("tempo"), core.use("wav")
  local mark = core.use("mark")
  local load = {}

  -- A folder of the outbox itself, not something elsewhere.
  local function is_plain(folder)
    return type(folder) == "string" and folder ~= "" and not folder:find("[/\\:]") and folder:sub(1, 1) ~= "."
  end

  -- What came back and still lies there, newest first: {{folder, path, created_at}}. Ardour's Lua can't list a folder, so
  -- the daemon's status file says it.
  function load.songs()
    local outbox = core.paths().outbox
    local where = outbox .. "/.dawbridge/status.json"
    local ok, status = pcall(json.decode, core.read_file(where) or "")
    if not ok or type(status) ~= "table" or type(status.returned) ~= "table" then
      core.fail("%s can't be read. Start `dawbridge run`, and see that its disk is there.", where)
    end
    local songs = {}
    for _, entry in ipairs(status.returned) do
      local path = is_plain(entry.folder) and outbox .. "/" .. entry.folder
      if path and core.exists(path .. "/manifest.json") then
        songs[#songs + 1] = { folder = entry.folder, path = path, created_at = tostring(entry.created_at or "") }
      end
    end
    if #songs == 0 then core.fail("No song lies in the outbox %s. Has one come back?", outbox) end
    return songs
  end

  -- The name of a track that holds this content, or nil. Tracks that an undo has emptied don't count.
  local function track_with(content)
    for route in core.each(Session:get_tracks()) do
      local found = mark.of(route)
      if found and found.content == content and route:to_track():playlist():n_regions() > 0 then return route:name() end
    end
  end

  local function check_rate(found)
    local session_hz = math.floor(Session:nominal_sample_rate() + 0.5)
    if session_hz == found.bounce.sample_rate_hz then return session_hz end
    local line = ("The session runs at %d Hz, the song at %d Hz."):format(session_hz, found.bounce.sample_rate_hz)
    if not core.confirm(line .. " Ardour would resample it. Load it?") then core.fail("%s It was not loaded.", line) end
    return session_hz
  end

  -- Audio before MIDI, each in ORDER; reports are left out.
  local function ranked(artifacts)
    local rank, found = {}, {}
    for index, name in ipairs(ORDER) do rank[name] = index end
    local function key(artifact)
      return ("%s%03d%s"):format(artifact.kind, rank[artifact.name] or #ORDER + 1, artifact.name)
    end
    for _, artifact in ipairs(artifacts) do
      if artifact.kind == "audio" or artifact.kind == "midi" then found[#found + 1] = artifact end
    end
    table.sort(found, function(a, b) return key(a) < key(b) end)
    return found
  end

  local function readable(artifact)
    local name = artifact.name:gsub("_", " ")
    return artifact.approximate and name .. " (approximate)" or name
  end

  -- The part in the name that Ardour gives a MIDI region: <file>.<part>-1.
  local function part_of(artifact, region)
    local file = artifact.path:match("([^/]+)%.[^./]*$") or ""
    local name = region:name()
    local rest = name:sub(1, #file + 1) == file .. "." and name:sub(#file + 2) or name
    return rest:match("^(.+)%-%d+$") or rest
  end

  local function number_of(region)
    return tonumber(region:to_stateful():id():to_s())
  end

  -- The regions that a file's import adds to the session's list, in the file's order.
  local function import(path)
    local known, made, files = {}, {}, C.StringVector()
    for _, region in ARDOUR.RegionFactory.regions():iter() do known[number_of(region)] = true end
    files:push_back(path)
    Editor:do_import(
      files, Editing.ImportDistinctFiles, Editing.ImportAsRegion, ARDOUR.SrcQuality.SrcBest,
      ARDOUR.MidiTrackNameSource.SMFTrackName, ARDOUR.MidiTempoMapDisposition.SMFTempoIgnore,
      Temporal.timepos_t(0), ARDOUR.PluginInfo(), ARDOUR.Track(), false
    )
    for _, region in ARDOUR.RegionFactory.regions():iter() do
      if not known[number_of(region)] then made[#made + 1] = region end
    end
    if #made == 0 then core.fail("Ardour can't import %s.", path) end
    table.sort(made, function(one, two) return number_of(one) < number_of(two) end)
    return made
  end

  -- Mutes tracks. Ardour does it in the audio engine's next cycle; where the engine stands nothing plays, and it does it
  -- when the engine runs again, so that isn't waited for.
  local function mute(waiting)
    for _, one in ipairs(waiting) do
      one.track:mute_control():set_value(1, PBD.GroupControlDisposition.NoGroup)
    end
    local looks = MUTE_LIMIT_MS // LOOK_MS
    for _, one in ipairs(waiting) do
      while looks > 0 and one.track:mute_control():get_value() == 0 do
        looks = looks - 1
        ARDOUR.LuaAPI.usleep(LOOK_MS * 1000)
      end
    end
  end

  -- The track that an undo has emptied and that bears this mark, or nil.
  local function emptied_track(marked)
    for route in core.each(Session:get_tracks()) do
      local track, found = route:to_track(), mark.of(route)
      if found and mark.is_same(found, marked) and track:playlist():n_regions() == 0 then return track end
    end
  end

  -- New tracks, of which Ardour makes one or none; `channels` is nil for MIDI.
  local function new_tracks(channels, name)
    local order, normal = ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal
    if channels then return Session:new_audio_track(channels, 2, nil, 1, name, order, normal, true) end
    local one = ARDOUR.ChanCount(ARDOUR.DataType("midi"), 1)
    return Session:new_midi_track(one, one, true, ARDOUR.PluginInfo(), nil, nil, 1, name, order, normal, true)
  end

  -- A new track that bears this mark.
  local function add_track(channels, name, marked)
    for track in core.each(new_tracks(channels, name)) do
      mark.set(track, marked)
      return track
    end
    core.fail("Ardour makes no track for %s. Does its audio engine run?", name)
  end

  -- Finds or makes an artifact's tracks, still empty, and notes in `waiting` which region belongs where.
  local function add(song, found, artifact, session_hz, group, waiting)
    local path = song.path .. "/" .. artifact.path
    local at = math.floor(artifact.start_frames * session_hz / found.bounce.sample_rate_hz + 0.5)
    local is_audio, regions = artifact.kind == "audio", import(path)
    local channels = is_audio and wav.facts(path).channels or nil
    for number, region in ipairs(regions) do
      local name = readable(artifact) .. (is_audio and "" or " " .. part_of(artifact, region))
      local frames = region:length():samples()
      local marked = { content = found.content, number = number, at = at, frames = frames, artifact = artifact.name }
      local track = emptied_track(marked)
      if not track then
        track = add_track(channels, name, marked)
        if STEMS[artifact.name] then group():add(track) end
      end
      waiting[#waiting + 1] = { track = track, region = region, at = at }
    end
    return #regions
  end

  -- Puts every region on its track: what one undo takes away.
  local function place(waiting, name)
    Session:begin_reversible_command(name)
    for _, one in ipairs(waiting) do
      local region, playlist = ARDOUR.RegionFactory.clone_region(one.region, true, false), one.track:playlist()
      local audio = region:to_audioregion()
      if not audio:isnil() then -- Ardour fades every new region; a stem must come as it is
        audio:set_fade_in_active(false)
        audio:set_fade_out_active(false)
      end
      playlist:to_stateful():clear_changes()
      playlist:add_region(region, Temporal.timepos_t(one.at), 1, false)
      Session:add_stateful_diff_command(playlist:to_statefuldestructible())
    end
    Session:commit_reversible_command(nil)
  end

  -- Finds or makes the group when the first new stem needs it.
  local function stem_group(song)
    local name, group = song.folder .. " stems", nil
    return function()
      for known in core.each(Session:route_groups()) do
        if known:name() == name then group = group or known end
      end
      group = group or Session:new_route_group(name)
      return group
    end
  end

  -- Imports glue nothing to beats and leave the session's range alone; calling what it returns puts both back.
  local function hold_settings()
    local config, is_free = Session:cfg(), Session:session_range_is_free()
    local glued = config:get_glue_new_regions_to_bars_and_beats()
    config:set_glue_new_regions_to_bars_and_beats(false)
    Session:set_session_range_is_free(false)
    return function()
      config:set_glue_new_regions_to_bars_and_beats(glued)
      Session:set_session_range_is_free(is_free)
    end
  end

  -- Ardour takes no undo step inside another, so what imports by itself comes first.
  local function build(song, found, session_hz)
    local restore, count, waiting, group = hold_settings(), { audio = 0, midi = 0 }, {}, stem_group(song)
    local ok, problem = pcall(function()
      for _, artifact in ipairs(ranked(found.artifacts)) do
        count[artifact.kind] = count[artifact.kind] + add(song, found, artifact, session_hz, group, waiting)
      end
      mute(waiting)
      place(waiting, "dawbridge: load " .. song.folder)
    end)
    restore()
    if not ok then
      local line = "%s could not be loaded: %s The next load fills its empty tracks, `unload` removes them."
      core.fail(line, song.folder, core.line_of(problem))
    end
    return count
  end

  -- A word on the session's tempo where it isn't the song's.
  local function tempo_line(found, session_hz)
    local told = type(found.tempo) == "table" and found.tempo.bpm
    local start = found.bounce.start_frames
    if type(told) ~= "number" or type(start) ~= "number" then return "" end
    local here = tempo.bpm_at(math.floor(start * session_hz / found.bounce.sample_rate_hz + 0.5))
    if math.abs(here - told) < SAME_BPM then return "" end
    return (" The session runs at %.1f bpm there, the song at %.1f: audio is not stretched, but MIDI follows the "
      .. "session's tempo."):format(here, told)
  end

  -- A word on drafts. The new tracks are muted, and Ardour can't undo a mute: swapping is the musician's.
  local function draft_line(found)
    if found.draft == true then return " It is a draft: the best follows." end
    if type(found.replaces) == "string" then return " It replaces a draft: mute that one's tracks, if it is loaded." end
    return ""
  end

  -- Loads one song; the line that says so. Fails with one line.
  function load.song(song)
    core.check_session()
    local found = manifest.read(song.path)
    local holder = track_with(found.content)
    if holder then return ("%s is loaded already: track %s."):format(song.folder, holder) end
    manifest.check_files(song.path, found)
    if #ranked(found.artifacts) == 0 then core.fail("%s holds nothing that can be loaded.", song.path) end
    local session_hz = check_rate(found)
    local count = build(song, found, session_hz)
    return ("%s is loaded: %d audio and %d MIDI tracks, all muted; unmute a stem to hear all stems.%s%s"):format(
      song.folder, count.audio, count.midi, draft_line(found), tempo_line(found, session_hz)
    )
  end

  -- The newest song of the outbox.
  function load.newest()
    core.check_session()
    return load.song(load.songs()[1])
  end

  -- Lets the musician choose; nil where nothing was chosen.
  function load.choose()
    core.check_session()
    local songs, rows = load.songs(), {}
    for index, song in ipairs(songs) do
      rows[("%02d  %s   %s"):format(index, song.folder, song.created_at:gsub("T", " "):gsub("Z$", ""))] = index
    end
    local answer = LuaDialog.Dialog("dawbridge: choose a song", {
      { type = "dropdown", key = "song", title = "Song", values = rows },
    }):run()
    return answer and songs[answer.song] and load.song(songs[answer.song]) or nil
  end

  return load
end
