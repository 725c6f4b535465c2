-- Fills a new session: the tempo, a MIDI track "take" to record on and, where a file is given, a MIDI track "musician"
-- that holds it. Reads DAWBRIDGE_BPM, DAWBRIDGE_MUSICIAN (a .mid file or empty) and writes what became of it to
-- DAWBRIDGE_READY: "ready", or the error.
ardour { ["type"] = "SessionInit", name = "dawbridge test", description = "A session for a test" }

-- What is being made: a C++ exception reaches Lua without a text.
local step = "tempo"

local function musician (path)
	step = "import"
	local files = C.StringVector ()
	files:push_back (path)
	Editor:do_import (files,
		Editing.ImportDistinctFiles, Editing.ImportAsTrack, ARDOUR.SrcQuality.SrcBest,
		ARDOUR.MidiTrackNameSource.SMFTrackName, ARDOUR.MidiTempoMapDisposition.SMFTempoIgnore,
		Temporal.timepos_t (0), ARDOUR.PluginInfo (), ARDOUR.Track (), false)
	step = "name"
	local list = Session:get_tracks () -- held: `iter` does not hold it
	for route in list:iter () do
		if route:name () ~= "take" then
			route:set_name ("musician")
		end
	end
end

local function fill ()
	local bpm = tonumber (os.getenv ("DAWBRIDGE_BPM"))
	local map = Temporal.TempoMap.write_copy ()
	map:set_tempo (Temporal.Tempo (bpm, bpm, 4), Temporal.timepos_t (0))
	Temporal.TempoMap.update (map)
	map = nil

	step = "take"
	local one = ARDOUR.ChanCount (ARDOUR.DataType ("midi"), 1)
	Session:new_midi_track (one, one, true, ARDOUR.PluginInfo (), nil, nil, 1, "take",
		ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal, true)

	local file = os.getenv ("DAWBRIDGE_MUSICIAN")
	if file ~= "" then
		musician (file)
	end
	step = "save"
	Session:save_state ("")
end

function factory () return function ()
	local good, fault = pcall (fill)
	local ready = io.open (os.getenv ("DAWBRIDGE_READY"), "w")
	ready:write (good and "ready" or step .. ": " .. tostring (fault))
	ready:close ()
end end
