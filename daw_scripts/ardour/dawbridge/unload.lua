-- Takes away the tracks that the last load made, also where an undo has emptied them: Ardour has no undo for new tracks.
-- A track that was changed since (its region, fader, plug-ins or sends) stays. Ardour itself asks before it removes; who
-- says No keeps the tracks, though in no group. As with any track that is removed, Ardour keeps playlists and files, which
-- no track plays, until its own clean-up.
--
-- Ardour's Lua can neither remove a track nor select one, but its action "select next" selects a whole group. So the
-- tracks come into one group; unless Ardour then has selected just these, nothing is removed.
-- GPL-3.0-or-later

local GROUP = "dawbridge: unload"
local FRAMES_OFF = 1
local AS_LOADED = 1 -- of a fader

return function(core)
  local mark = core.use("mark")
  local unload = {}

  local function number_of(one)
    return tonumber(one:to_stateful():id():to_s())
  end

  local function stands_as_loaded(region, found)
    return math.abs(region:position():samples() - found.at) <= FRAMES_OFF
      and math.abs(region:length():samples() - found.frames) <= FRAMES_OFF
  end

  -- The higher, the later a load has made or filled the track: Ardour numbers what it makes in one row.
  local function loaded_at(route, found)
    local number = number_of(route)
    for region in core.each(route:to_track():playlist():region_list()) do
      if stands_as_loaded(region, found) then number = math.max(number, number_of(region)) end
    end
    return number
  end

  -- The content of the track that was made or filled last, or nil where none is ours.
  local function newest()
    local content, highest = nil, -1
    for route in core.each(Session:get_tracks()) do
      local found = mark.of(route)
      local number = found and loaded_at(route, found) or -1
      if number > highest then content, highest = found.content, number end
    end
    return content
  end

  local function is_unchanged(route, found)
    local regions = route:to_track():playlist():region_list()
    for region in core.each(regions) do
      if not stands_as_loaded(region, found) then return false end
    end
    return regions:size() <= 1 and route:gain_control():get_value() == AS_LOADED
      and route:nth_plugin(0):isnil() and route:nth_send(0):isnil()
  end

  -- The tracks of a content that may go, and the names of those that stay.
  local function sorted_out(content)
    local going, staying = {}, {}
    for route in core.each(Session:get_tracks()) do
      local found = mark.of(route)
      if found and found.content == content then
        if is_unchanged(route, found) then going[#going + 1] = route else staying[#staying + 1] = route:name() end
      end
    end
    return going, staying
  end

  local function is_selected(going)
    local wanted, count = {}, 0
    for _, route in ipairs(going) do wanted[number_of(route)] = true end
    for route in core.each(Editor:get_selection().tracks:routelist()) do
      if not wanted[number_of(route)] then return false end
      count = count + 1
    end
    return count == #going
  end

  -- Selects just these tracks; whether that went well.
  local function select(going)
    local group = Session:new_route_group(GROUP)
    for _, route in ipairs(going) do group:add(route) end
    group:set_select(true)
    group:set_active(true, nil)
    Editor:deselect_all()
    local steps = Session:get_routes():size() + 1
    while steps > 0 and not is_selected(going) do
      Editor:access_action("Editor", "select-next-route")
      steps = steps - 1
    end
    Session:remove_route_group(group)
    return is_selected(going)
  end

  -- Groups that loading made and that hold no track any more.
  local function drop_empty_groups()
    local empty = {}
    for group in core.each(Session:route_groups()) do
      if group:size() == 0 and group:name():match(" stems$") then empty[#empty + 1] = group end
    end
    for _, group in ipairs(empty) do Session:remove_route_group(group) end
  end

  -- Has Ardour ask about the tracks of the last load; the line that says so. Fails with one line.
  function unload.run()
    core.check_session()
    local content = newest()
    if not content then core.fail("This session holds nothing that dawbridge loaded.") end
    local going, staying = sorted_out(content)
    local stays = #staying > 0 and (" Changed since and left alone: %s."):format(table.concat(staying, ", ")) or ""
    if #going == 0 then core.fail("No track of the last load can go.%s", stays) end
    if not select(going) then
      core.fail("Ardour did not select the %d tracks of the last load, so none is removed. Is one hidden? Show it.", #going)
    end
    drop_empty_groups()
    Editor:remove_tracks()
    return ("Ardour asks whether to remove what the last load made (tracks: %d).%s"):format(#going, stays)
  end

  return unload
end
