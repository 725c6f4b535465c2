-- @description dawbridge: choose a song that came back, and load it
-- @version 2
-- @author dawbridge
-- @changelog
--   First version
-- @provides [nomain] dawbridge/*.lua
-- @noindex
-- GPL-3.0-or-later (part of the package dawbridge_send.lua)

local here = debug.getinfo(1, "S").source:match("^@(.*[/\\])")
local core = dofile(here .. "dawbridge/core.lua")(here)

core.run(function()
  local x, y = reaper.GetMousePosition()
  gfx.init("dawbridge", 1, 1, 0, x, y) -- a menu needs a window to stand at
  gfx.x, gfx.y = gfx.mouse_x, gfx.mouse_y
  return core.finally(core.use("load").choose, gfx.quit)
end)
