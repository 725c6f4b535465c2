-- A musician who bounces a song to dawbridge and loads what comes back, with the real actions, in one Ardour. Reads
-- DAWBRIDGE_BPM, DAWBRIDGE_SONG (a WAV file), DAWBRIDGE_START (its frame on the timeline) and DAWBRIDGE_PROOF (a folder); there
-- it writes `lines` (what the actions said), `sent`, then waits for `go` (a returned file's path), and writes `done`: "done", or the error.
-- Before the first load, the song's folder is spoilt in several ways, and Ardour makes no track.
-- Sessions are saved as before, spoilt, loaded, again, undone, redone and reloaded, and with one stem or all stems sounding
-- as only_*.
ardour { ["type"] = "SessionInit", name = "dawbridge test", description = "dawbridge's actions, one after the other" }

local proof, said -- set when it runs: Ardour reads a script's head without `os`

local function write (name, text)
	local file = io.open (proof .. "/" .. name, "a")
	file:write (text)
	file:close ()
end

local function read (name)
	local file = io.open (proof .. "/" .. name)
	if not file then return nil end
	local text = file:read ("a")
	file:close ()
	return text
end

-- A box would wait for a click.
local function listen ()
	local dialog = LuaDialog
	print = function (line) said = line end
	LuaDialog = { MessageType = dialog.MessageType, ButtonType = dialog.ButtonType, Response = dialog.Response }
	function LuaDialog.Message (_, line)
		return { run = function () said = "box: " .. line end }
	end
	function LuaDialog.Dialog () -- the first one is chosen
		return { run = function () return { song = 1 } end }
	end
end

-- Runs an action as Ardour does: only the bytecode of its factory is kept.
local function act (label, name)
	ardour = function () end
	loadfile (ARDOUR.user_config_directory (-1) .. "/scripts/" .. name .. ".lua") ()
	local kept = string.dump (factory, true)
	said = "nothing"
	load (kept, name, "b") () ()
	write ("lines", label .. ": " .. said .. "\n")
end

local function set_up ()
	local bpm = tonumber (os.getenv ("DAWBRIDGE_BPM"))
	local map = Temporal.TempoMap.write_copy ()
	map:set_tempo (Temporal.Tempo (bpm, bpm, 4), Temporal.timepos_t (0))
	Temporal.TempoMap.update (map)
	map = nil
	local files = C.StringVector ()
	files:push_back (os.getenv ("DAWBRIDGE_SONG"))
	Editor:do_import (files,
		Editing.ImportDistinctFiles, Editing.ImportAsTrack, ARDOUR.SrcQuality.SrcBest,
		ARDOUR.MidiTrackNameSource.SMFTrackName, ARDOUR.MidiTempoMapDisposition.SMFTempoIgnore,
		Temporal.timepos_t (tonumber (os.getenv ("DAWBRIDGE_START"))), ARDOUR.PluginInfo (), ARDOUR.Track (), false)
end

-- Saves a session in which only these tracks sound; the audio engine mutes a cycle later.
local function save_sounding (name, tracks)
	local list = Session:get_tracks () -- held: `iter` does not hold it
	for route in list:iter () do
		local control, value = route:mute_control (), tracks[route:name ()] and 0 or 1
		control:set_value (value, PBD.GroupControlDisposition.NoGroup)
		for _ = 1, 5000 do
			if control:get_value () == value then break end
			ARDOUR.LuaAPI.usleep (1000)
		end
		if control:get_value () ~= value then error ("the audio engine stands") end
	end
	Session:save_state (name)
end

local function save_stems ()
	local all, list = {}, Session:get_tracks ()
	for route in list:iter () do
		local stem = route:comment ():match ("^dawbridge 1 %x+ %d+ %d+%+%d+ (%a+)$")
		if stem == "vocals" or stem == "drums" or stem == "bass" or stem == "other" then
			all[route:name ()] = true
			save_sounding ("only_" .. stem, { [route:name ()] = true })
		end
	end
	save_sounding ("only_stems", all)
end

-- Loads with a manifest that `change` has rewritten, which then is as it was.
local function load_spoilt (label, change)
	local path = read ("go"):match ("^(.*/)") .. "manifest.json"
	local file = io.open (path)
	local text = file:read ("a")
	file:close ()
	for _, one in ipairs ({ change (text), text }) do
		file = io.open (path, "w")
		file:write (one)
		file:close ()
		if one ~= text then act (label, "dawbridge_load") end
	end
end

-- Loads while `Session`, as the action sees it, is another.
local function load_in (label, session)
	local own = Session
	Session = session
	act (label, "dawbridge_load")
	Session = own
end

-- This session with some methods of its own. Before every other call Lua collects what nothing holds, which ends Ardour
-- when it is used all the same.
local function session_with (methods)
	local own = Session
	return setmetatable (methods, { __index = function (_, name)
		return function (_, ...)
			collectgarbage ()
			return own[name] (own, ...)
		end
	end })
end

local function load_bad_input ()
	load_spoilt ("future", function (text) return (text:gsub ('"schema": 1', '"schema": 2')) end)
	load_spoilt ("half", function (text) return text:sub (1, #text // 2) end)
	load_spoilt ("changed", function (text) return (text:gsub ('"sha256": "%x%x%x%x', '"sha256": "0000')) end)
	load_spoilt ("other rate", function (text) return (text:gsub ('"sample_rate_hz": 48000', '"sample_rate_hz": 44100')) end)
	load_in ("recording", { actively_recording = function () return true end })
	load_in ("no session", nil)
	Session:save_state ("spoilt")
	load_in ("no track", session_with ({ new_audio_track = function () return ARDOUR.AudioTrackList () end }))
end

local function play ()
	proof = os.getenv ("DAWBRIDGE_PROOF")
	listen ()
	set_up ()
	act ("too early", "dawbridge_load")
	act ("send", "dawbridge_send")
	write ("sent", "sent")
	while (read ("go") or "") == "" do ARDOUR.LuaAPI.usleep (100000) end
	Session:save_state ("before")
	load_bad_input ()
	load_in ("load", session_with ({}))
	Session:save_state ("loaded")
	act ("load again", "dawbridge_load")
	Session:save_state ("again")
	Editor:undo (1)
	Session:save_state ("undone")
	Editor:redo (1)
	Session:save_state ("redone")
	save_stems ()
	act ("choose", "dawbridge_choose")
	Editor:undo (1)
	local stem = read ("go")
	os.rename (stem, stem .. ".away")
	act ("load without a stem", "dawbridge_load")
	os.rename (stem .. ".away", stem)
	act ("load after undo", "dawbridge_load")
	Session:save_state ("reloaded")
end

function factory () return function ()
	local good, fault = pcall (play)
	write ("done", good and "done" or tostring (fault))
end end
