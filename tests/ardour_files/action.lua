-- An action of Ardour's that runs a test's lines of Lua in Ardour's own loop, as it runs a musician's actions. They lie in
-- <DAWBRIDGE_READY>.lua; what `say` or `act` said, or the error, comes into <DAWBRIDGE_READY>.answer.
local ready = os.getenv ("DAWBRIDGE_READY")
local said

local function say (line) said = tostring (line) end

-- Runs one of dawbridge's actions as Ardour does: only the bytecode of its factory is kept. A box would wait for a click.
local function act (name)
	local dialog, env = LuaDialog, setmetatable ({ print = say, ardour = function () end }, { __index = _G })
	env.LuaDialog = { MessageType = dialog.MessageType, ButtonType = dialog.ButtonType, Response = dialog.Response }
	function env.LuaDialog.Message (_, line)
		return { run = function () say ("box: " .. line) end }
	end
	env.loadfile = function (path) return loadfile (path, "bt", env) end
	env.loadfile (ARDOUR.user_config_directory (-1) .. "/scripts/" .. name .. ".lua") ()
	load (string.dump (env.factory, true), name, "b", env) () ()
end

return function ()
	said = "nothing"
	local env = setmetatable ({ say = say, act = act }, { __index = _G })
	local good, fault = pcall (function () assert (loadfile (ready .. ".lua", "t", env)) () end)
	local file = io.open (ready .. ".tmp", "w")
	file:write (good and said or "error: " .. tostring (fault))
	file:close ()
	os.rename (ready .. ".tmp", ready .. ".answer")
end
