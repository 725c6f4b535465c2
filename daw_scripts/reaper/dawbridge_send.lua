-- @description dawbridge: send
-- @version 2
-- @author dawbridge
-- @changelog
--   First version
-- @provides
--   [main] dawbridge_load.lua
--   [main] dawbridge_choose.lua
--   [main] dawbridge_autoload.lua
--   [main] dawbridge_panel.lua
--   [nomain] dawbridge/*.lua
-- @about
--   Sends the selected items, else the time selection, else the selected tracks to dawbridge, without a dialog.
-- GPL-3.0-or-later

local here = debug.getinfo(1, "S").source:match("^@(.*[/\\])")
local core = dofile(here .. "dawbridge/core.lua")(here)

core.run(function() return core.use("send").run() end)
