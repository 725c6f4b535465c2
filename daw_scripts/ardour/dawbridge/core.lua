-- What every dawbridge script for Ardour shares: where inbox and outbox lie, how files are read and written, how a line
-- reaches the musician. Runs in Ardour's Lua (5.3, no dofile, require, package, debug) on its GUI thread.
-- The modules json, sha256, wav and manifest are those of the REAPER scripts.
-- GPL-3.0-or-later

local PATHS_FILE = "dawbridge_paths.lua"
local MAX_SMALL_BYTES = 16 << 20 -- no text or MIDI file of the contract is larger

return function(here)
  local core = { VERSION = "2" }
  local modules, known_paths, last_id = {}, nil, 0

  -- Ends what runs with one clear line.
  function core.fail(line, ...)
    error({ line = select("#", ...) > 0 and line:format(...) or line }, 0)
  end

  -- The module of this name in the folder dawbridge/, loaded once.
  function core.use(name)
    if not modules[name] then
      local module, why = loadfile(here .. "dawbridge/" .. name .. ".lua")
      if not module then core.fail("%s. Run `dawbridge install-scripts ardour` again.", why) end
      modules[name] = module()(core)
    end
    return modules[name]
  end

  -- The line of an error that was caught: ours as it is, any other with where it came from.
  function core.line_of(problem)
    if type(problem) == "table" and problem.line then return problem.line end
    return "This is a fault in dawbridge's script (" .. tostring(problem) .. ")."
  end

  -- Runs `job`; what it returns goes to Ardour's log, what it fails with stands in a box.
  function core.run(job)
    local ok, answer = pcall(job)
    if not ok then
      local line = core.line_of(answer)
      print("dawbridge: " .. line)
      LuaDialog.Message("dawbridge", line, LuaDialog.MessageType.Warning, LuaDialog.ButtonType.Close):run()
    elseif answer then
      print("dawbridge: " .. answer)
    end
    return ok
  end

  -- Whether the musician wants it all the same.
  function core.confirm(question)
    local box = LuaDialog.Message("dawbridge", question, LuaDialog.MessageType.Question, LuaDialog.ButtonType.Yes_No)
    return box:run() == LuaDialog.Response.Yes
  end

  -- Fails unless a session is open and may be changed now.
  function core.check_session()
    if not Session then core.fail("No session is open. Open one, then try again.") end
    if Session:actively_recording() then core.fail("Ardour records. Stop the recording, then try again.") end
  end

  -- {inbox, outbox}, as `dawbridge install-scripts` wrote them.
  function core.paths()
    if known_paths then return known_paths end
    local text = core.read_file(here .. PATHS_FILE)
    local told = text and load(text, PATHS_FILE, "t", {})
    local ok, paths = pcall(told)
    if not ok or type(paths) ~= "table" or type(paths.inbox) ~= "string" or type(paths.outbox) ~= "string" then
      core.fail("%s is missing or damaged. Run `dawbridge install-scripts ardour`.", here .. PATHS_FILE)
    end
    known_paths = { inbox = paths.inbox:gsub("[/\\]+$", ""), outbox = paths.outbox:gsub("[/\\]+$", "") }
    return known_paths
  end

  -- Every system takes "/" from Lua's io.
  function core.native(path)
    return path
  end

  -- The bytes of a file, or nil where it can't be read or is larger than `most` bytes.
  function core.read_file(path, most)
    local file = io.open(path, "rb")
    if not file then return nil end
    most = most or MAX_SMALL_BYTES
    local text = file:read(most + 1) or ""
    file:close()
    return #text <= most and text or nil
  end

  -- Puts a file into place whole or not at all: written beside under a hidden name, then renamed.
  function core.write_file(path, text)
    local folder, name = path:match("^(.*/)([^/]+)$")
    local beside = folder .. "." .. name .. "." .. core.new_id() .. ".tmp"
    local file, why = io.open(beside, "wb")
    if not file then core.fail("%s can't be written (%s). Is its disk there?", path, why) end
    local written = file:write(text)
    local closed = file:close()
    if not (written and closed and os.rename(beside, path)) then
      os.remove(beside)
      core.fail("%s can't be written. Make room on its disk.", path)
    end
  end

  -- Fails unless files can be made in the folder `path`; it makes no folder where a disk is unplugged.
  function core.check_writable(path, what)
    local probe = path .. "/.dawbridge-" .. core.new_id() .. ".tmp"
    local file = io.open(probe, "wb")
    if not file then
      core.fail("The %s %s is not there or can't be written. Is its disk plugged in?", what, path)
    end
    file:close()
    os.remove(probe)
  end

  function core.exists(path)
    local file = io.open(path, "rb")
    if file then file:close() end
    return file ~= nil
  end

  -- Letters and digits that no other call in this Ardour gives.
  function core.new_id()
    last_id = last_id + 1
    return ("%x-%x-%x"):format(os.time(), ARDOUR.LuaAPI.monotonic_time(), last_id)
  end

  -- Walks one of Ardour's lists, as `for one in core.each(list)`. Its own `iter` doesn't hold the list, so that Lua may
  -- collect it on the way; and what its `front` and `back` give is gone with the list. Either ends Ardour.
  function core.each(list)
    local step = list:iter()
    return function() return step(list) end
  end

  -- Calls `after` whatever becomes of `job`; its values, or its error.
  function core.finally(job, after)
    local results = table.pack(pcall(job))
    after()
    if not results[1] then error(results[2], 0) end
    return table.unpack(results, 2, results.n)
  end

  return core
end
