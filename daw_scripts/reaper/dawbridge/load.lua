-- Puts a returned song onto new tracks under one folder track, where its bounce stood, in one undo step. Nothing that
-- exists is touched, but for one thing: where the song replaces a draft that sounds, that folder is muted, and the new
-- one sounds instead. Everything is read and checked before the first track is made; if REAPER then refuses something,
-- the new tracks are taken away again. A song whose content is in the project already is not loaded a second time.
--
-- The folder track comes muted, so that nothing doubles what plays. In it only the stems are unmuted: they add up to
-- the bounce. MIDI tracks stand in a closed folder of their own.
-- GPL-3.0-or-later

local MARK = "P_EXT:dawbridge" -- on the folder track: version, job, revision, content, bounce name, with tabs
local BUILD_PEAKS = 40047 -- "Peaks: Build any missing peaks"
local IN_TIME = 0 -- C_BEATATTACHMODE: the item stays where it is in seconds, and is never stretched
local USE_COLOUR = 0x1000000
local PROGRAM_CHANGE = 0xC0
local SAME_BPM = 0.05
local CLOSED = 1 -- I_FOLDERCOMPACT
local MOST_SHOWN = 40 -- in the menu

local STEMS = { vocals = true, drums = true, bass = true, other = true }
local ORDER = {
  "vocals", "drums", "bass", "other", "voice", "backing", "lead", "mix", "new_piece",
  "arrangement_audio", "arrangement", "continuation_audio", "continuation", "notes", "notes_quantised",
}
local COLOURS = {
  vocals = { 214, 84, 104 }, voice = { 196, 92, 190 }, lead = { 196, 92, 190 }, backing = { 196, 92, 190 },
  drums = { 224, 152, 62 }, bass = { 86, 132, 222 }, other = { 96, 170, 116 },
  piano = { 96, 170, 116 }, guitar = { 152, 178, 80 }, strings = { 88, 178, 186 },
}
local OTHER_COLOUR = { 150, 150, 160 }

return function(core)
  local manifest, midi, tempo = core.use("manifest"), core.use("midi"), core.use("tempo")
  local load = {}

  -- The folders in the outbox that hold a manifest, newest first: {{folder, path, created_at}}.
  function load.songs()
    local outbox, songs = core.paths().outbox, {}
    for _, name in ipairs(core.subfolders(outbox)) do
      local path = outbox .. "/" .. name
      if name:sub(1, 1) ~= "." and core.exists(path .. "/manifest.json") then
        songs[#songs + 1] = { folder = name, path = path, created_at = manifest.created_at(path) }
      end
    end
    if #songs == 0 then
      core.fail("No song lies in the outbox %s. Has one come back, and is its disk plugged in?", outbox)
    end
    table.sort(songs, function(a, b)
      if a.created_at ~= b.created_at then return a.created_at > b.created_at end
      return a.folder > b.folder
    end)
    return songs
  end

  -- What the project's folder tracks say they hold: {{job, content, bounce, index}}.
  local function marks()
    local found = {}
    for index = 0, reaper.CountTracks(0) - 1 do
      local _, text = reaper.GetSetMediaTrackInfo_String(reaper.GetTrack(0, index), MARK, "", false)
      local job, content, bounce = text:match("^1\t([^\t]*)\t%d+\t(%x+)\t(.*)$")
      if content then found[#found + 1] = { job = job, content = content, bounce = bounce, index = index } end
    end
    return found
  end

  local function track_with(content)
    for _, mark in ipairs(marks()) do
      if mark.content == content then return mark.index + 1 end
    end
  end

  -- The folder tracks of the draft that this song replaces.
  local function drafts_of(found)
    local drafts = {}
    for _, mark in ipairs(marks()) do
      if mark.job == found.replaces then drafts[#drafts + 1] = reaper.GetTrack(0, mark.index) end
    end
    return drafts
  end

  local function depth_of(index)
    return math.tointeger(reaper.GetMediaTrackInfo_Value(reaper.GetTrack(0, index), "I_FOLDERDEPTH") // 1)
  end

  -- Where new tracks stand in no folder of the musician's: behind an older revision of the song, else at the end,
  -- else (the last folder is left open) at the top.
  local function place_for(found)
    local older = {}
    for _, mark in ipairs(marks()) do
      if mark.bounce == found.bounce.name then older[mark.index] = true end
    end
    local depth, place, in_older = 0, nil, false
    for index = 0, reaper.CountTracks(0) - 1 do
      if depth == 0 then in_older = older[index] end
      depth = math.max(depth + depth_of(index), 0)
      if depth == 0 and in_older then place = index + 1 end
    end
    return place or (depth == 0 and reaper.CountTracks(0)) or 0
  end

  local function check_rate(found, may_ask)
    if reaper.GetSetProjectInfo(0, "PROJECT_SRATE_USE", 0, false) == 0 then return end
    local project_hz = reaper.GetSetProjectInfo(0, "PROJECT_SRATE", 0, false)
    if project_hz == found.bounce.sample_rate_hz then return end
    local line = ("The project runs at %.0f Hz, the song at %.0f Hz."):format(project_hz, found.bounce.sample_rate_hz)
    if not may_ask then core.fail("%s `dawbridge: load` asks and loads it.", line) end
    if not core.confirm(line .. " REAPER would resample it while playing. Load it?") then
      core.fail("%s It was not loaded.", line)
    end
  end

  local function ranked(artifacts, kind)
    local rank, found = {}, {}
    for index, name in ipairs(ORDER) do rank[name] = index end
    for _, artifact in ipairs(artifacts) do
      if artifact.kind == kind then found[#found + 1] = artifact end
    end
    table.sort(found, function(a, b)
      local one, two = rank[a.name] or #ORDER + 1, rank[b.name] or #ORDER + 1
      if one ~= two then return one < two end
      return a.name < b.name
    end)
    return found
  end

  -- Frees what no take holds; the others go with their tracks.
  local function destroy(plan)
    for _, one in ipairs(plan.audio) do
      if not one.is_held then reaper.PCM_Source_Destroy(one.source) end
    end
  end

  -- Everything that the tracks will hold, read and checked; the project is not touched.
  local function prepare(song, found)
    local plan = { audio = {}, parts = {}, rate_hz = found.bounce.sample_rate_hz }
    for _, artifact in ipairs(ranked(found.artifacts, "midi")) do
      local ok, score = pcall(midi.read, artifact.bytes)
      if not ok then core.fail("%s/%s: %s.", song.path, artifact.path, core.line_of(score)) end
      for number, track in ipairs(score.tracks) do
        local name = track.name ~= "" and track.name or "part " .. number
        plan.parts[#plan.parts + 1] = { artifact = artifact, name = name, track = track, length_s = score.length_s }
      end
    end
    for _, artifact in ipairs(ranked(found.artifacts, "audio")) do
      local source = reaper.PCM_Source_CreateFromFile(core.native(song.path .. "/" .. artifact.path))
      if not source then
        destroy(plan)
        core.fail("REAPER can't open %s/%s.", song.path, artifact.path)
      end
      plan.audio[#plan.audio + 1] = { artifact = artifact, source = source }
    end
    if #plan.audio + #plan.parts == 0 then core.fail("%s holds nothing that can be loaded.", song.path) end
    return plan
  end

  local function readable(artifact)
    local name = artifact.name:gsub("_", " ")
    return artifact.approximate and name .. " (approximate)" or name
  end

  local function add_track(made, at, name, colour)
    reaper.InsertTrackAtIndex(at + #made, false)
    local track = reaper.GetTrack(0, at + #made)
    made[#made + 1] = track
    reaper.GetSetMediaTrackInfo_String(track, "P_NAME", name, true)
    local native = reaper.ColorToNative(table.unpack(colour))
    reaper.SetMediaTrackInfo_Value(track, "I_CUSTOMCOLOR", native | USE_COLOUR)
    return track
  end

  local function add_audio(track, one, rate_hz)
    local artifact, item = one.artifact, reaper.AddMediaItemToTrack(track)
    local take = reaper.AddTakeToMediaItem(item)
    reaper.SetMediaItemTake_Source(take, one.source)
    one.is_held = true
    local values = {
      D_POSITION = artifact.start_frames / rate_hz, D_LENGTH = artifact.frames / rate_hz,
      C_BEATATTACHMODE = IN_TIME, B_LOOPSRC = 0, D_FADEINLEN = 0, D_FADEOUTLEN = 0, B_UISEL = 0,
    }
    for key, value in pairs(values) do reaper.SetMediaItemInfo_Value(item, key, value) end
    local name = artifact.path:match("([^/]+)%.[^./]*$") or artifact.name
    reaper.GetSetMediaItemTakeInfo_String(take, "P_NAME", name, true)
  end

  local function add_notes(track, part, rate_hz)
    local start = part.artifact.start_frames / rate_hz
    local item = reaper.CreateNewMIDIItemInProj(track, start, start + part.length_s, false)
    local take = reaper.GetActiveTake(item)
    local function tick(seconds)
      return math.floor(reaper.MIDI_GetPPQPosFromProjTime(take, start + seconds) + 0.5)
    end
    for _, change in ipairs(part.track.programs) do
      reaper.MIDI_InsertCC(take, false, false, tick(change.at_s), PROGRAM_CHANGE, change.channel, change.program, 0)
    end
    for _, note in ipairs(part.track.notes) do
      local from, to = tick(note.start_s), tick(note.stop_s)
      reaper.MIDI_InsertNote(
        take, false, false, from, math.max(to, from + 1), note.channel, note.pitch, note.velocity, true
      )
    end
    reaper.MIDI_Sort(take)
    reaper.SetMediaItemInfo_Value(item, "B_UISEL", 0)
    reaper.GetSetMediaItemTakeInfo_String(take, "P_NAME", readable(part.artifact) .. ": " .. part.name, true)
  end

  local function add_parts(made, at, song, plan)
    local folder = add_track(made, at, song.folder .. " MIDI", OTHER_COLOUR)
    reaper.SetMediaTrackInfo_Value(folder, "I_FOLDERDEPTH", 1)
    reaper.SetMediaTrackInfo_Value(folder, "I_FOLDERCOMPACT", CLOSED)
    for _, part in ipairs(plan.parts) do
      local name = readable(part.artifact) .. ": " .. part.name
      add_notes(add_track(made, at, name, COLOURS[part.name] or OTHER_COLOUR), part, plan.rate_hz)
    end
  end

  -- Where a draft sounds, lets the new folder sound instead. Muting comes last: if anything fails, it still sounds.
  local function swap(drafts, folder)
    for _, draft in ipairs(drafts) do
      if reaper.GetMediaTrackInfo_Value(draft, "B_MUTE") == 0 then
        reaper.SetMediaTrackInfo_Value(folder, "B_MUTE", 0)
        reaper.SetMediaTrackInfo_Value(draft, "B_MUTE", 1)
      end
    end
  end

  -- Adds every track to `made` as soon as it stands, so that a failure knows what to take away.
  local function build(made, at, song, found, plan, drafts)
    local folder = add_track(made, at, song.folder, OTHER_COLOUR)
    local mark = table.concat({ "1", found.id, found.revision, found.content, found.bounce.name }, "\t")
    reaper.GetSetMediaTrackInfo_String(folder, MARK, mark, true)
    reaper.SetMediaTrackInfo_Value(folder, "I_FOLDERDEPTH", 1)
    reaper.SetMediaTrackInfo_Value(folder, "B_MUTE", 1)
    for _, one in ipairs(plan.audio) do
      local name = one.artifact.name
      local track = add_track(made, at, readable(one.artifact), COLOURS[name] or OTHER_COLOUR)
      if not STEMS[name] then reaper.SetMediaTrackInfo_Value(track, "B_MUTE", 1) end
      add_audio(track, one, plan.rate_hz)
    end
    if #plan.parts > 0 then add_parts(made, at, song, plan) end
    reaper.SetMediaTrackInfo_Value(made[#made], "I_FOLDERDEPTH", #plan.parts > 0 and -2 or -1)
    swap(drafts, folder)
  end

  local function take_back(made, plan)
    for index = #made, 1, -1 do reaper.DeleteTrack(made[index]) end
    destroy(plan)
  end

  local function build_in_one_step(song, found, plan, drafts)
    local restore_view, place, made = core.remember_view(), place_for(found), {}
    reaper.Undo_BeginBlock2(0)
    reaper.PreventUIRefresh(1)
    local ok, problem = pcall(build, made, place, song, found, plan, drafts)
    local is_clean, left = ok or pcall(take_back, made, plan), ""
    if not is_clean then left = " Undo takes away what is left of it." end
    local is_restored, fault = pcall(restore_view)
    reaper.PreventUIRefresh(-1) -- whatever failed: else REAPER draws nothing any more
    reaper.Undo_EndBlock2(0, "dawbridge: load " .. song.folder, (ok or not is_clean) and -1 or 0)
    reaper.TrackList_AdjustWindows(false)
    reaper.UpdateArrange()
    if not ok then core.fail("%s could not be loaded: %s%s", song.folder, core.line_of(problem), left) end
    if not is_restored then error(fault, 0) end
    reaper.Main_OnCommand(BUILD_PEAKS, 0)
    return made[1]
  end

  -- A word on the project's tempo where it isn't the song's.
  local function tempo_line(found)
    local told = type(found.tempo) == "table" and found.tempo.bpm
    if type(told) ~= "number" or type(found.bounce.start_frames) ~= "number" then return "" end
    local start = found.bounce.start_frames / found.bounce.sample_rate_hz
    local here = tempo.bpm_between(start, start + 1)
    if math.abs(here - told) < SAME_BPM then return "" end
    return (" The project runs at %.1f bpm there, the song at %.1f: nothing is stretched."):format(here, told)
  end

  -- Where its tracks stand and what sounds.
  local function sound_line(found, folder, drafts)
    if reaper.GetMediaTrackInfo_Value(folder, "B_MUTE") == 0 then
      return "in a folder that sounds in place of its draft, which is muted now."
    end
    local line = "in a muted folder; unmute it to hear the stems."
    if #drafts > 0 then return line .. " Its draft is muted, too." end
    return found.draft == true and line .. " It is a draft: the best follows." or line
  end

  -- Loads one song; the line that says so. `may_ask`: a box may be shown. Fails with one line, the project unchanged.
  function load.song(song, may_ask)
    core.check_project()
    local found = manifest.read(song.path)
    local at = track_with(found.content)
    if at then return ("%s is loaded already: track %d."):format(song.folder, at) end
    manifest.check_files(song.path, found)
    check_rate(found, may_ask)
    local plan, drafts = prepare(song, found), drafts_of(found)
    local folder = build_in_one_step(song, found, plan, drafts)
    return ("%s is loaded: %d audio and %d MIDI tracks %s%s"):format(
      song.folder, #plan.audio, #plan.parts, sound_line(found, folder, drafts), tempo_line(found)
    )
  end

  -- The newest song of the outbox.
  function load.newest(may_ask)
    core.check_project()
    return load.song(load.songs()[1], may_ask)
  end

  -- Lets the musician choose from a menu at the mouse; nil where nothing was chosen. A loaded song has a check mark.
  function load.choose()
    core.check_project()
    local songs, loaded = load.songs(), {}
    for _, mark in ipairs(marks()) do loaded[mark.content] = true end
    local rows = {}
    for index = 1, math.min(#songs, MOST_SHOWN) do
      local song = songs[index]
      local ok, found = pcall(manifest.read, song.path)
      local label = ("%s   %s"):format(song.folder, song.created_at:gsub("T", " "):gsub("Z$", "")):gsub("[|#!<>]", " ")
      rows[index] = (ok and loaded[found.content] and "!" or "") .. label
    end
    local choice = gfx.showmenu(table.concat(rows, "|"))
    return choice > 0 and load.song(songs[choice], true) or nil
  end

  return load
end
