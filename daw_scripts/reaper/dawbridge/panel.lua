-- A small window: the jobs and how far they are, send and load, and the companion's main controls. It looks at the
-- status file twice a second, draws only when something has changed, and speaks to the daemon by command files.
-- GPL-3.0-or-later

local LOOK_S = 0.5
local SILENT_S = 15 -- the daemon gives a sign of life every 5 s
local ANSWER_S = 10
local WIDTH, HEIGHT = 380, 420
local MARGIN, ROW, GAP = 10, 24, 6
local FONT, FONT_SIZE = "Arial", 14
local ESCAPE, CLOSED = 27, -1
local CENTRED = 1 | 4
local MOST_JOBS = 6
local MODES = { "call", "continue", "loop" }
local BARS = { lowest = 1, highest = 32, step = 1 } -- as the companion has them
local TEMPERATURE = { lowest = 0.05, highest = 2, step = 0.1 }
local SHARE = { lowest = 0, highest = 1 }
local INK, DIM, BACK = { 0.9, 0.9, 0.9 }, { 0.6, 0.6, 0.6 }, { 0.15, 0.15, 0.16 }
local BUTTON, HOVER = { 0.27, 0.27, 0.3 }, { 0.37, 0.37, 0.42 }
local DONE, GOES, BAD = { 0.35, 0.62, 0.4 }, { 0.35, 0.5, 0.8 }, { 0.8, 0.4, 0.35 }
local JOB_COMMANDS = {
  failed = "retry", cancelled = "retry", quarantined = "retry",
  queued = "cancel", running = "cancel", waiting = "cancel",
}
local BAR_COLOURS = { done = DONE, running = GOES, failed = BAD, quarantined = BAD } -- others: BUTTON

return function(core)
  local load, remote, send = core.use("load"), core.use("remote"), core.use("send")
  local panel = {}

  local function clamped(value, range)
    return math.max(range.lowest, math.min(range.highest, value))
  end

  local function following(list, value)
    for index, one in ipairs(list) do
      if one == value then return list[index % #list + 1] end
    end
    return list[1]
  end

  -- A panel whose clock is `now()`. Call `frame` for every turn of the loop; false means that it was closed.
  function panel.new(now)
    local self = { line = "", buttons = {} }
    local read = remote.reader()
    local status, problem, next_s, alive_s, stamp = nil, nil, -math.huge, now(), nil
    local waiting, was_down, drawn_for = nil, false, nil

    local function tell(line)
      self.line, drawn_for = line, nil
    end

    local function try(job)
      local ok, answer = pcall(job)
      if not ok then
        tell(core.line_of(answer))
      elseif answer then
        tell(answer)
      end
    end

    local function command(name, fields, what)
      try(function()
        waiting = { id = remote.command(name, fields), what = what, until_s = now() + ANSWER_S }
        return what .. " ..."
      end)
    end

    local function set_control(name, value)
      command("live_set", { name = name, value = value }, name .. " = " .. tostring(value))
    end

    local function do_live(name)
      command("live", { name = name }, name)
    end

    local function look()
      local news
      status, news = read()
      problem = not status and news or nil
      if news == true then drawn_for = nil end
      if status and status.updated_at ~= stamp then stamp, alive_s = status.updated_at, now() end
      if status and now() - alive_s > SILENT_S then
        problem = "The daemon gives no sign of life. Start it with `dawbridge run`."
      end
      local answers = status and type(status.answers) == "table" and status.answers or {}
      local answer = waiting and answers[waiting.id]
      if answer then
        tell(answer.ok and waiting.what .. ": done" or waiting.what .. ": " .. tostring(answer.detail or answer.code))
        waiting = nil
      elseif waiting and now() > waiting.until_s then
        tell(waiting.what .. ": the daemon gave no answer. Does `dawbridge run` run?")
        waiting = nil
      end
    end

    local function colour(of)
      gfx.set(of[1], of[2], of[3], 1)
    end

    local function text(words, x, y, right, of, flags)
      colour(of)
      gfx.x, gfx.y = x, y
      gfx.drawstr(words, flags or 0, right, y + ROW)
    end

    local function is_over(button)
      local x, y = gfx.mouse_x, gfx.mouse_y
      return x >= button.x and x < button.x + button.w and y >= button.y and y < button.y + ROW
    end

    -- Draws a button, remembers it, and returns where the next one stands.
    local function button(label, x, y, w, action)
      local one = { label = label, x = x, y = y, w = w, action = action }
      self.buttons[#self.buttons + 1] = one
      colour(is_over(one) and HOVER or BUTTON)
      gfx.rect(x, y, w, ROW - 2, 1)
      text(label, x, y, x + w, INK, CENTRED)
      return x + w + GAP
    end

    local function draw_job(job, y)
      local right = gfx.w - MARGIN
      local state = tostring(job.state)
      local share = state == "done" and 1 or tonumber(job.progress) or 0
      colour(BUTTON)
      gfx.rect(MARGIN, y + ROW - 5, right - MARGIN - 70, 3, 1)
      colour(BAR_COLOURS[state] or BUTTON)
      gfx.rect(MARGIN, y + ROW - 5, math.floor((right - MARGIN - 70) * clamped(share, SHARE)), 3, 1)
      local song = tostring(job.name) .. (job.draft == true and " (draft)" or "")
      local words = ("%s   %s"):format(song, state)
      if state == "running" then
        words = ("%s   %s %.0f %%"):format(song, tostring(job.stage), share * 100)
      end
      text(words, MARGIN, y, right - 70, INK)
      local name = JOB_COMMANDS[state]
      if name then
        local what = name .. " " .. tostring(job.name)
        button(name, right - 60, y, 60, function() command(name, { job = job.id }, what) end)
      end
    end

    local function draw_jobs(y)
      local jobs = status and type(status.jobs) == "table" and status.jobs or {}
      if #jobs == 0 then text("No jobs yet.", MARGIN, y, gfx.w - MARGIN, DIM) end
      for index = 1, math.min(#jobs, MOST_JOBS) do
        draw_job(jobs[index], y)
        y = y + ROW + 2
      end
      return y + (#jobs == 0 and ROW or 0) + GAP
    end

    local function draw_companion(y)
      local live = status and type(status.live) == "table" and status.live
      local controls = live and type(live.controls) == "table" and live.controls
      if not controls then
        text("The companion does not run (`dawbridge live`).", MARGIN, y, gfx.w - MARGIN, DIM)
        return
      end
      local bars, heat = tonumber(controls.bars) or 4, tonumber(controls.temperature) or 1
      local function heat_by(step)
        return function()
          set_control("temperature", math.floor(clamped(heat + step, TEMPERATURE) * 100 + 0.5) / 100)
        end
      end
      local x = button("mode: " .. tostring(controls.mode), MARGIN, y, 130, function()
        set_control("mode", following(MODES, controls.mode))
      end)
      button(controls.mute and "muted" or "mute", x, y, 70, function() set_control("mute", not controls.mute) end)
      y = y + ROW + GAP
      x = button("bars -", MARGIN, y, 62, function() set_control("bars", clamped(bars - BARS.step, BARS)) end)
      x = button("bars +", x, y, 62, function() set_control("bars", clamped(bars + BARS.step, BARS)) end)
      text(("%d bars"):format(bars), x, y, x + 60, INK)
      y = y + ROW + GAP
      x = button("heat -", MARGIN, y, 62, heat_by(-TEMPERATURE.step))
      x = button("heat +", x, y, 62, heat_by(TEMPERATURE.step))
      text(("temperature %.2f"):format(heat), x, y, gfx.w - MARGIN, INK)
      y, x = y + ROW + GAP, MARGIN
      for _, name in ipairs({ "answer", "stop", "keep", "undo", "panic" }) do
        x = button(name, x, y, 62, function() do_live(name) end)
      end
    end

    local function draw()
      self.buttons = {}
      gfx.setfont(1, FONT, FONT_SIZE)
      colour(BACK)
      gfx.rect(0, 0, gfx.w, gfx.h, 1)
      local y = MARGIN
      local x = button("send", MARGIN, y, 80, function() try(send.run) end)
      x = button("load newest", x, y, 110, function() try(function() return load.newest(true) end) end)
      button("choose ...", x, y, 90, function()
        gfx.x, gfx.y = gfx.mouse_x, gfx.mouse_y
        try(load.choose)
      end)
      y = y + ROW + GAP
      local line = problem or (self.line ~= "" and self.line) or (status and remote.age_line(status)) or ""
      text(line, MARGIN, y, gfx.w - MARGIN, problem and BAD or DIM)
      draw_companion(draw_jobs(y + ROW + GAP))
    end

    -- What a drawing depends on beside the status and the line.
    local function looks()
      return ("%d %d %d %d %s"):format(gfx.w, gfx.h, gfx.mouse_x, gfx.mouse_y, problem or "")
    end

    local function click()
      for _, one in ipairs(self.buttons) do
        if is_over(one) then return one.action() end
      end
    end

    function self.open()
      gfx.init("dawbridge", WIDTH, HEIGHT, 0)
      gfx.clear = -1 -- it fills its own ground, so that a turn without a change need not draw
      try(function()
        core.check_reaper()
        remote.command("hello", { transport = remote.transport() })
      end)
    end

    function self.frame()
      local key = gfx.getchar()
      if key == CLOSED or key == ESCAPE then return false end
      if now() >= next_s then
        next_s = now() + LOOK_S
        local ok, fault = pcall(look)
        if not ok then problem = core.line_of(fault) end
      end
      local is_down = gfx.mouse_cap & 1 ~= 0
      if is_down and not was_down then click() end
      was_down = is_down
      if drawn_for ~= looks() then
        draw()
        drawn_for = looks()
      end
      gfx.update()
      return true
    end

    return self
  end

  return panel
end
