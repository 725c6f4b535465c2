-- Everything stands inside factory(): Ardour keeps only that function of an action.
-- GPL-3.0-or-later
ardour {
	["type"] = "EditorAction", name = "dawbridge: unload", author = "dawbridge", license = "GPL-3.0-or-later",
	description = "Removes the tracks that the last load made and nobody changed; Ardour asks before.",
}

function factory () return function ()
	local here = ARDOUR.user_config_directory (-1) .. "/scripts/"
	local module = loadfile and loadfile (here .. "dawbridge/core.lua")
	if not module then
		local line = here .. "dawbridge/core.lua can't be read. Run `dawbridge install-scripts ardour`; "
			.. "if Ardour's preferences say \"sandbox all Lua scripts\", switch that off."
		LuaDialog.Message ("dawbridge", line, LuaDialog.MessageType.Warning, LuaDialog.ButtonType.Close):run ()
		return
	end
	local core = module () (here)
	core.run (function () return core.use ("unload").run () end)
end end
