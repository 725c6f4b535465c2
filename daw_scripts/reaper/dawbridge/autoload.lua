-- Loads what comes back for this project while the musician goes on working. Between two looks at the status file,
-- which are two seconds apart, it costs one comparison of the clock. What lay there when it started is left to
-- `dawbridge: load`; what came back for another project waits until that project is in front; while REAPER records
-- everything waits.
-- GPL-3.0-or-later

local LOOK_S = 2

return function(core)
  local load, remote = core.use("load"), core.use("remote")
  local autoload = {}

  local function key_of(entry)
    return tostring(entry.id) .. "\t" .. tostring(entry.revision) .. "\t" .. tostring(entry.folder)
  end

  -- A folder of the outbox itself, not something elsewhere.
  local function is_plain(folder)
    return type(folder) == "string" and folder ~= "" and not folder:find("[/\\:]") and folder:sub(1, 1) ~= "."
  end

  -- Loads one song that came back; its line. A song that can't be loaded is told once.
  local function take(entry)
    local song = { folder = entry.folder, path = core.paths().outbox .. "/" .. entry.folder }
    local ok, line = pcall(load.song, song, false)
    core.say(ok and line or core.line_of(line))
  end

  -- A function to call as often as you like; it looks every LOOK_S seconds of `now()`.
  function autoload.watcher(now)
    local read, seen, next_s, told = remote.reader(), nil, -math.huge, nil

    local function tell_once(line)
      if line ~= told then core.say(line) end
      told = line
    end

    local function look()
      local status, news = read()
      if not status then return tell_once(news) end
      told = nil
      local returned = type(status.returned) == "table" and status.returned or {}
      if not seen then
        seen = {}
        for _, entry in ipairs(returned) do seen[key_of(entry)] = true end
        local old = remote.age_line(status)
        if old then core.say(old) end
        return
      end
      for index = #returned, 1, -1 do -- the oldest first
        local entry = returned[index]
        if not seen[key_of(entry)] and core.is_ours(tostring(entry.name), entry.project) then
          if core.is_recording() then return end
          seen[key_of(entry)] = true
          if is_plain(entry.folder) then take(entry) end
        end
      end
    end

    return function()
      if now() < next_s then return end
      next_s = now() + LOOK_S
      local ok, problem = pcall(look)
      if not ok then tell_once(core.line_of(problem)) end
    end
  end

  return autoload
end
