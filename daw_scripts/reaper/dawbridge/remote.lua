-- What the daemon tells (`<outbox>/.dawbridge/status.json`) and what it is told (`<inbox>/.dawbridge/<id>.json`).
-- GPL-3.0-or-later

local SCHEMA = 1
local MOST_STATUS_BYTES = 4 << 20

return function(core)
  local json = core.use("json")
  local remote = {}

  -- A reader of the status file. Each call reads the file once, and parses it only if more than its time has changed:
  -- it returns the status and whether it is new, or nil and a line that says why there is none.
  function remote.reader()
    local seen_text, seen_stamp, status, problem
    return function()
      local path = core.paths().outbox .. "/.dawbridge/status.json"
      local text = core.read_file(path, MOST_STATUS_BYTES)
      if not text then
        seen_text, status, problem = nil, nil, "The daemon has told nothing yet. Start it with `dawbridge run`."
        return nil, problem
      end
      local stamp = text:match('"updated_at"%s*:%s*"([^"]*)"')
      local rest = text:gsub('"updated_at"%s*:%s*"[^"]*"', "")
      if rest == seen_text then
        if status and stamp ~= seen_stamp then status.updated_at, seen_stamp = stamp, stamp end
        return status, status and false or problem
      end
      local ok, found = pcall(json.decode, text)
      seen_text, seen_stamp, status = rest, stamp, nil
      if not ok or type(found) ~= "table" then
        problem = path .. " is damaged. Start `dawbridge run` again."
      elseif type(found.schema) == "number" and found.schema > SCHEMA then
        problem = "The daemon is newer than these scripts. Run `dawbridge install-scripts`."
      else
        status = found
      end
      return status, status and true or problem
    end
  end

  -- A line where the daemon ships newer scripts than these, else nil.
  function remote.age_line(status)
    local ours, theirs = tonumber(core.VERSION), tonumber(status.scripts)
    if ours and theirs and theirs > ours then
      local line = "These scripts are version %g, the daemon ships %g. Run `dawbridge install-scripts`."
      return line:format(ours, theirs)
    end
  end

  -- Drops a command for the daemon; its id, under which the status will hold the answer.
  function remote.command(name, fields)
    local inbox, id = core.paths().inbox, "reaper-" .. core.new_id()
    local command = { schema = SCHEMA, id = id, command = name, script = "reaper", script_version = core.VERSION }
    for key, value in pairs(fields or {}) do command[key] = value end
    core.check_writable(inbox, "inbox")
    reaper.RecursiveCreateDirectory(core.native(inbox .. "/.dawbridge"), 0)
    core.write_file(inbox .. "/.dawbridge/" .. id .. ".json", json.encode(command) .. "\n")
    return id
  end

  -- Where the project stands, as `hello` tells it.
  function remote.transport()
    local at = reaper.GetCursorPositionEx(0)
    local per_bar, unit = core.use("tempo").metre_at(at)
    return {
      bpm = core.use("tempo").bpm_between(at, at + 1),
      beats_per_bar = per_bar,
      beat_unit = unit,
      playing = reaper.GetPlayStateEx(0) & 1 ~= 0,
      beat = reaper.TimeMap2_timeToQN(0, at),
      project = core.project_name(),
    }
  end

  return remote
end
