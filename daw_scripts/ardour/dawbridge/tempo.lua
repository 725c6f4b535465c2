-- The session's tempo map over a range, as the sidecar states it: quarter notes per minute, stepwise. A step stands
-- within a frame of its place; a ramp becomes one step for each quarter note, with that quarter's mean tempo.
-- GPL-3.0-or-later

local MIN_BPM, MAX_BPM = 20, 999 -- of the sidecar
local BEAT_UNITS = { [1] = true, [2] = true, [4] = true, [8] = true, [16] = true, [32] = true }
local MOST_BEATS_PER_BAR = 64
local SAME_BPM = 1e-5
local MOST_STEPS = 15000 -- what fits into a sidecar

return function()
  local tempo = {}

  local function at(frames)
    return Temporal.timepos_t(frames)
  end

  -- Quarter notes per minute at a frame of the timeline.
  function tempo.bpm_at(frames)
    return math.floor(Temporal.TempoMap.read():quarters_per_minute_at(at(frames)) * 1e6 + 0.5) / 1e6
  end

  local function is_same(one, two)
    return math.abs(one - two) < SAME_BPM
  end

  -- The frame in (from, to) at which the tempo steps, or nil where it glides.
  local function step_between(from, to)
    local before, after = tempo.bpm_at(from), tempo.bpm_at(to)
    local low, high = from, to
    while high - low > 1 do
      local middle = (low + high) // 2
      if is_same(tempo.bpm_at(middle), before) then low = middle else high = middle end
    end
    return is_same(tempo.bpm_at(high), after) and high or nil
  end

  local function steps(start, stop, rate_hz)
    local found, from = {}, start
    local function add(frames, bpm)
      if #found == 0 or not is_same(found[#found].bpm, bpm) then
        found[#found + 1] = { frames = frames - start, bpm = bpm }
      end
    end
    while from < stop and #found <= MOST_STEPS do
      local before = tempo.bpm_at(from)
      local quarter_frames = math.max(1, math.floor(60 * rate_hz / before + 0.5))
      local to = math.min(from + quarter_frames, stop)
      local step = not is_same(tempo.bpm_at(to - 1), before) and step_between(from, to - 1)
      if step == nil then -- a ramp: the mean of both ends
        add(from, math.floor((before + tempo.bpm_at(to)) / 2 * 1e6 + 0.5) / 1e6)
      else
        add(from, before)
        if step then to = step end
      end
      from = to
    end
    return found
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
    local told, line = { bpm = found[1].bpm }, ""
    local metre, last = Temporal.TempoMap.read():meter_at(at(start)), Temporal.TempoMap.read():meter_at(at(stop - 1))
    local per_bar, unit = metre:divisions_per_bar(), metre:note_value()
    if per_bar >= 1 and per_bar <= MOST_BEATS_PER_BAR and BEAT_UNITS[unit] then
      told.beats_per_bar, told.beat_unit = per_bar, unit
      if last:divisions_per_bar() ~= per_bar or last:note_value() ~= unit then
        line = ("the metre changes inside, only %d/%d is told"):format(per_bar, unit)
      end
    end
    if #found > 1 then told.changes = table.move(found, 2, #found, 1, {}) end
    return told, line
  end

  return tempo
end
