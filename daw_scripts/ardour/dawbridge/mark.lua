-- What a loaded track's comment says: which content and artifact it holds, and where its region was put.
-- GPL-3.0-or-later

local FORM = "dawbridge 1 %s %d+%d %s" -- content, first frame, frames, artifact
local PATTERN = "dawbridge 1 (%x+) (%d+)%+(%d+) ([%w_]+)"

return function()
  local mark = {}

  function mark.set(track, content, at, frames, artifact)
    track:set_comment(FORM:format(content, at, frames, artifact), nil)
  end

  -- {content, at, frames, artifact}, or nil for a track that isn't ours.
  function mark.of(route)
    local content, at, frames, artifact = route:comment():match(PATTERN)
    if content then
      return { content = content, at = tonumber(at), frames = tonumber(frames), artifact = artifact }
    end
  end

  return mark
end
