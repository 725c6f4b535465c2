-- What a loaded track's comment says: which content, artifact and region of its file it holds, and where that was put.
-- GPL-3.0-or-later

local FORM = "dawbridge 1 %s %d %d+%d %s" -- content, number in the file, first frame, frames, artifact
local PATTERN = "dawbridge 1 (%x+) (%d+) (%d+)%+(%d+) ([%w_]+)"

return function()
  local mark = {}

  -- `one` is {content, number, at, frames, artifact}.
  function mark.set(track, one)
    track:set_comment(FORM:format(one.content, one.number, one.at, one.frames, one.artifact), nil)
  end

  -- The same of a track, or nil where it isn't ours.
  function mark.of(route)
    local content, number, at, frames, artifact = route:comment():match(PATTERN)
    if not content then return nil end
    return {
      content = content, number = tonumber(number), at = tonumber(at), frames = tonumber(frames), artifact = artifact,
    }
  end

  function mark.is_same(one, two)
    return one.content == two.content and one.number == two.number and one.artifact == two.artifact
  end

  return mark
end
