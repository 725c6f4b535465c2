-- The project's tempo map over a range, as the sidecar states it: quarter notes per minute, stepwise.
-- It asks REAPER only where quarter notes fall (TimeMap2_timeToQN), so nothing depends on which note REAPER's bpm
-- counts. A gradual change becomes one step for each quarter note, true at every step's ends.
-- GPL-3.0-or-later

local MIN_BPM, MAX_BPM = 20, 999 -- of the sidecar
local MOST_BEATS_PER_BAR = 64
local BEAT_UNITS = { [1] = true, [2] = true, [4] = true, [8] = true, [16] = true, [32] = true }
local SAME_BPM = 1e-5
local A_MOMENT_S = 1e-6 -- into a marker's own stretch, whatever its time was rounded to
local MOST_STEPS = 15000 -- what fits into a sidecar

return function()
  local tempo = {}

  -- Times in seconds at which the tempo changes inside (start, stop), in rising order.
  local function boundaries(start, stop)
    local times = {}
    for index = 0, reaper.CountTempoTimeSigMarkers(0) - 1 do
      local _, at, _, _, _, _, _, is_gradual = reaper.GetTempoTimeSigMarker(0, index)
      if at > start and at < stop then times[#times + 1] = at end
      local there, following = reaper.GetTempoTimeSigMarker(0, index + 1)
      if is_gradual and there then
        local first = reaper.TimeMap2_timeToQN(0, math.max(at, start))
        local last = reaper.TimeMap2_timeToQN(0, math.min(following, stop))
        for quarter = math.floor(first) + 1, math.ceil(last) - 1 do
          times[#times + 1] = reaper.TimeMap2_QNToTime(0, quarter)
        end
      end
    end
    table.sort(times)
    return times
  end

  -- The mean tempo between two times, in quarter notes per minute.
  function tempo.bpm_between(from, to)
    local quarters = reaper.TimeMap2_timeToQN(0, to) - reaper.TimeMap2_timeToQN(0, from)
    return math.floor(quarters * 60 / (to - from) * 1e6 + 0.5) / 1e6
  end

  -- Beats per bar and the beat's unit at a time; nil where the contract has no such metre.
  function tempo.metre_at(at)
    local per_bar, unit = reaper.TimeMap_GetTimeSigAtTime(0, at + A_MOMENT_S)
    if per_bar >= 1 and per_bar <= MOST_BEATS_PER_BAR and BEAT_UNITS[unit] then return per_bar, unit end
  end

  local function steps(start, stop, rate_hz)
    local times, found = boundaries(start, stop), {}
    for index = 0, #times do
      local from, to = times[index] or start, times[index + 1] or stop
      local frames = math.floor((from - start) * rate_hz + 0.5)
      if to - from > A_MOMENT_S then
        local bpm, last = tempo.bpm_between(from, to), found[#found]
        if last and frames <= last.frames then
          last.bpm = bpm
        elseif not last or math.abs(last.bpm - bpm) > SAME_BPM then
          found[#found + 1] = { frames = frames, bpm = bpm }
        end
      end
    end
    return found
  end

  -- Frames from `start` to the first bar line.
  local function first_downbeat_frames(start, rate_hz)
    local beat, measure, beats = reaper.TimeMap2_timeToBeats(0, start)
    if beat < A_MOMENT_S then return 0 end
    if beats - beat < A_MOMENT_S then return 0 end
    return math.floor((reaper.TimeMap2_beatsToTime(0, 0, measure + 1) - start) * rate_hz + 0.5)
  end

  local function metre_changes(start, stop, per_bar, unit)
    for index = 0, reaper.CountTempoTimeSigMarkers(0) - 1 do
      local _, at = reaper.GetTempoTimeSigMarker(0, index)
      if at > start and at < stop - A_MOMENT_S then
        local num, denom = reaper.TimeMap_GetTimeSigAtTime(0, at + A_MOMENT_S)
        if num ~= per_bar or denom ~= unit then return true end
      end
    end
    return false
  end

  -- The sidecar's `tempo`, and a line on what it can't say ("" where it says all). nil where no tempo can be told.
  function tempo.of_range(start, stop, rate_hz)
    local found = steps(start, stop, rate_hz)
    for _, step in ipairs(found) do
      if step.bpm < MIN_BPM or step.bpm > MAX_BPM then
        return nil, ("a tempo of %.1f is outside %d to %d, so it will be estimated"):format(step.bpm, MIN_BPM, MAX_BPM)
      end
    end
    if #found == 0 or #found > MOST_STEPS then return nil, "the tempo changes too often, so it will be estimated" end
    local per_bar, unit = tempo.metre_at(start)
    local told, line = { bpm = found[1].bpm }, ""
    if per_bar then
      told.beats_per_bar, told.beat_unit = per_bar, unit
      told.first_downbeat_frames = first_downbeat_frames(start, rate_hz)
      if metre_changes(start, stop, per_bar, unit) then
        line = ("the metre changes inside, only %d/%d is told"):format(per_bar, unit)
      end
    end
    if #found > 1 then told.changes = table.move(found, 2, #found, 1, {}) end
    return told, line
  end

  return tempo
end
