-- @description dawbridge: panel
-- @version 2
-- @author dawbridge
-- @changelog
--   First version
-- @provides [nomain] dawbridge/*.lua
-- @noindex
-- GPL-3.0-or-later (part of the package dawbridge_send.lua)

local ENDS_WHEN_RUN_AGAIN, SHOWN_AS_ON, SHOWN_AS_OFF = 1, 4, 8

local here = debug.getinfo(1, "S").source:match("^@(.*[/\\])")
local core = dofile(here .. "dawbridge/core.lua")(here)

core.run(function()
  local panel = core.use("panel").new(reaper.time_precise)
  reaper.set_action_options(ENDS_WHEN_RUN_AGAIN | SHOWN_AS_ON)
  reaper.atexit(function()
    gfx.quit()
    reaper.set_action_options(SHOWN_AS_OFF)
  end)
  panel.open()
  local function turn()
    if panel.frame() then reaper.defer(turn) end
  end
  turn()
end)
