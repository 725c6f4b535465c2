-- @description dawbridge: load by itself what comes back (on / off)
-- @version 2
-- @author dawbridge
-- @changelog
--   First version
-- @provides [nomain] dawbridge/*.lua
-- @noindex
-- @about
--   Run it once to switch it on, again to switch it off.
-- GPL-3.0-or-later (part of the package dawbridge_send.lua)

local ENDS_WHEN_RUN_AGAIN, SHOWN_AS_ON, SHOWN_AS_OFF = 1, 4, 8

local here = debug.getinfo(1, "S").source:match("^@(.*[/\\])")
local core = dofile(here .. "dawbridge/core.lua")(here)

core.run(function()
  core.paths() -- fails here and now where nothing is set up
  local watch = core.use("autoload").watcher(reaper.time_precise)
  reaper.set_action_options(ENDS_WHEN_RUN_AGAIN | SHOWN_AS_ON)
  reaper.atexit(function() reaper.set_action_options(SHOWN_AS_OFF) end)
  local function turn()
    watch()
    reaper.defer(turn)
  end
  turn()
  return "What comes back for this project is loaded by itself from now on."
end)
