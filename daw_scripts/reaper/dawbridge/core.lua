-- What every dawbridge script for REAPER shares: where inbox and outbox lie, how files are read and written,
-- how a line reaches the musician, and what of the project is put back as it was. Runs on REAPER's main thread.
-- GPL-3.0-or-later

local SECTION = "dawbridge" -- of ExtState, and of the mark on loaded folder tracks
local PATHS_FILE = "dawbridge_paths.json"
local OLDEST_REAPER = 7
local RECORDING = 4 -- bit of GetPlayStateEx
local OK_BUTTON, OK_CANCEL, OK_PRESSED = 0, 1, 1
local MAX_SMALL_BYTES = 16 << 20 -- no text or MIDI file of the contract is larger

return function(here)
  local core = { VERSION = "2", SECTION = SECTION, UNSAVED = "(not saved)" }
  local modules, known_paths = {}, nil

  -- The module of this name in the folder dawbridge/, loaded once.
  function core.use(name)
    if not modules[name] then modules[name] = dofile(here .. "dawbridge/" .. name .. ".lua")(core) end
    return modules[name]
  end

  -- Ends what runs with one clear line.
  function core.fail(line, ...)
    error({ line = select("#", ...) > 0 and line:format(...) or line }, 0)
  end

  -- The line of an error that was caught: ours as it is, any other with where it came from.
  function core.line_of(problem)
    if type(problem) == "table" and problem.line then return problem.line end
    return "This is a fault in dawbridge's script (" .. tostring(problem) .. "). Nothing else was done."
  end

  -- Shows a line without stopping the musician: at the bottom of the track panel, and in the console's text.
  function core.say(line)
    reaper.Help_Set("dawbridge: " .. line, false)
    reaper.ShowConsoleMsg("!SHOW:dawbridge: " .. line .. "\n")
  end

  -- Runs `job` for a musician who has just asked for it; what it returns is said, what it fails with stands in a box.
  function core.run(job)
    reaper.defer(function() end) -- without it REAPER adds an undo point of its own when the script ends
    local ok, answer = pcall(function()
      core.check_reaper()
      return job()
    end)
    if ok then
      if answer then core.say(answer) end
    else
      reaper.MB(core.line_of(answer), "dawbridge", OK_BUTTON)
    end
    return ok
  end

  -- Whether the musician wants it all the same.
  function core.confirm(question)
    return reaper.MB(question, "dawbridge", OK_CANCEL) == OK_PRESSED
  end

  function core.check_reaper()
    local version = reaper.GetAppVersion()
    if (tonumber(version:match("^%d+")) or 0) < OLDEST_REAPER then
      core.fail("These scripts need REAPER %d; this is %s. Update REAPER.", OLDEST_REAPER, version)
    end
  end

  -- Fails unless a project is open and may be changed now.
  function core.check_project()
    if not reaper.EnumProjects(-1) then core.fail("No project is open. Open one, then try again.") end
    if core.is_recording() then core.fail("REAPER records. Stop the recording, then try again.") end
  end

  function core.is_recording()
    return reaper.GetPlayStateEx(0) & RECORDING ~= 0
  end

  -- The project's name without its ending, or UNSAVED.
  function core.project_name()
    local name = reaper.GetProjectName(0):gsub("%.[Rr][Pp][Pp]$", "")
    return name ~= "" and name or core.UNSAVED
  end

  -- {inbox, outbox}: set by hand in ExtState, else by `dawbridge install-scripts`; read once for each run of a script.
  function core.paths()
    if known_paths then return known_paths end
    local told = {}
    local text = core.read_file(here .. PATHS_FILE)
    if text then
      local ok, found = pcall(core.use("json").decode, text)
      if not ok or type(found) ~= "table" then
        core.fail("%s is damaged. Run `dawbridge install-scripts` again.", here .. PATHS_FILE)
      end
      told = found
    end
    local paths = {}
    for _, key in ipairs({ "inbox", "outbox" }) do
      local path = reaper.GetExtState(SECTION, key)
      if path == "" then path = told[key] end
      if type(path) ~= "string" or path == "" then
        core.fail("%s names no %s. Run `dawbridge install-scripts`.", here .. PATHS_FILE, key)
      end
      paths[key] = path:gsub("[/\\]+$", "")
    end
    known_paths = paths
    return paths
  end

  local function sent_key(bounce)
    return "sent:" .. bounce
  end

  -- Remembers until REAPER closes that the open project has sent this bounce.
  function core.remember_sent(bounce)
    reaper.SetExtState(SECTION, sent_key(bounce), tostring(reaper.EnumProjects(-1)), false)
  end

  -- Whether a bounce came from the open project: sent from its tab, or from a project of its name.
  function core.is_ours(bounce, project)
    local name = core.project_name()
    if reaper.GetExtState(SECTION, sent_key(bounce)) == tostring(reaper.EnumProjects(-1)) then return true end
    return project == name and name ~= core.UNSAVED
  end

  -- A path as this system writes it.
  function core.native(path)
    if package.config:sub(1, 1) == "\\" then return (path:gsub("/", "\\")) end
    return path
  end

  -- The bytes of a file, or nil where it can't be read or is larger than `most` bytes.
  function core.read_file(path, most)
    local file = io.open(core.native(path), "rb")
    if not file then return nil end
    most = most or MAX_SMALL_BYTES
    local text = file:read(most + 1) or ""
    file:close()
    return #text <= most and text or nil
  end

  -- Puts a file into place whole or not at all: written beside under a hidden name, then renamed.
  function core.write_file(path, text)
    local folder, name = path:match("^(.*[/\\])([^/\\]+)$")
    local beside = core.native(folder .. "." .. name .. "." .. core.new_id() .. ".tmp")
    local file, why = io.open(beside, "wb")
    if not file then core.fail("%s can't be written (%s). Is its disk there?", path, why) end
    local written = file:write(text)
    local closed = file:close()
    if not (written and closed and os.rename(beside, core.native(path))) then
      os.remove(beside)
      core.fail("%s can't be written. Make room on its disk.", path)
    end
  end

  -- Fails unless files can be made in the folder `path`; it makes no folder where a disk is unplugged.
  function core.check_writable(path, what)
    local probe = core.native(path .. "/.dawbridge-" .. core.new_id() .. ".tmp")
    local file = io.open(probe, "wb")
    if not file then
      core.fail("The %s %s is not there or can't be written. Is its disk plugged in?", what, path)
    end
    file:close()
    os.remove(probe)
  end

  function core.exists(path)
    return reaper.file_exists(core.native(path))
  end

  -- Names of the folders in a folder, sorted; REAPER's own cache of them is dropped first.
  function core.subfolders(path)
    path = core.native(path)
    reaper.EnumerateSubdirectories(path, -1)
    local names, index = {}, 0
    local name = reaper.EnumerateSubdirectories(path, index)
    while name do
      names[#names + 1] = name
      index = index + 1
      name = reaper.EnumerateSubdirectories(path, index)
    end
    table.sort(names)
    return names
  end

  -- Hex digits that no other call gives.
  function core.new_id()
    return (reaper.genGuid(""):gsub("[^%x]", ""):lower())
  end

  local function range(is_loop)
    return reaper.GetSet_LoopTimeRange2(0, false, is_loop, 0, 0, false)
  end

  local function set_range(is_loop, from, to)
    local now_from, now_to = range(is_loop)
    if now_from ~= from or now_to ~= to then reaper.GetSet_LoopTimeRange2(0, true, is_loop, from, to, false) end
  end

  -- Remembers selection, time selection, loop, cursor and view; calling what it returns puts back what has changed.
  function core.remember_view()
    local tracks, items = {}, {}
    for index = 0, reaper.CountTracks(0) - 1 do
      local track = reaper.GetTrack(0, index)
      tracks[track] = reaper.IsTrackSelected(track)
    end
    for index = 0, reaper.CountMediaItems(0) - 1 do
      local item = reaper.GetMediaItem(0, index)
      items[item] = reaper.IsMediaItemSelected(item)
    end
    local cursor = reaper.GetCursorPositionEx(0)
    local from, to = range(false)
    local loop_from, loop_to = range(true)
    local left, right = reaper.GetSet_ArrangeView2(0, false, 0, 0, 0, 0)
    return function()
      for track, was in pairs(tracks) do
        if reaper.IsTrackSelected(track) ~= was then reaper.SetTrackSelected(track, was) end
      end
      for item, was in pairs(items) do
        if reaper.IsMediaItemSelected(item) ~= was then reaper.SetMediaItemSelected(item, was) end
      end
      set_range(true, loop_from, loop_to)
      set_range(false, from, to)
      if reaper.GetCursorPositionEx(0) ~= cursor then reaper.SetEditCurPos2(0, cursor, false, false) end
      local now_left, now_right = reaper.GetSet_ArrangeView2(0, false, 0, 0, 0, 0)
      if now_left ~= left or now_right ~= right then reaper.GetSet_ArrangeView2(0, true, 0, 0, left, right) end
    end
  end

  -- Calls `job`, then `after` whatever came of it, and passes on what `job` returned or raised.
  function core.finally(job, after)
    local result = table.pack(pcall(job))
    after()
    if not result[1] then error(result[2], 0) end
    return table.unpack(result, 2, result.n)
  end

  return core
end
