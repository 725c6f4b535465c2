-- @description dawbridge: load the newest song that came back
-- @version 2
-- @author dawbridge
-- @changelog
--   First version
-- @provides [nomain] dawbridge/*.lua
-- @noindex
-- GPL-3.0-or-later (part of the package dawbridge_send.lua)

local here = debug.getinfo(1, "S").source:match("^@(.*[/\\])")
local core = dofile(here .. "dawbridge/core.lua")(here)

core.run(function() return core.use("load").newest(true) end)
