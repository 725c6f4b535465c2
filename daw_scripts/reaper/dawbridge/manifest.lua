-- Reads `manifest.json` of a returned folder, checks it and the files it names, and tells which content it stands for.
-- Every file's presence, and rate and length of every WAV, are checked; SHA-256 only of MIDI and of files up to 1 MiB,
-- since plain Lua would need a minute for a song: larger audio of the same length that was altered goes unnoticed.
-- GPL-3.0-or-later

local SCHEMA = 1
local MAX_BYTES = 4 << 20
local HASHED_BYTES = 1 << 20 -- of one file
local HASHED_BYTES_IN_ALL = 2 << 20 -- of one song's audio, about a second and a half
local REMEDY = "Have the song made again."

return function(core)
  local json, sha256, wav = core.use("json"), core.use("sha256"), core.use("wav")
  local manifest = {}

  local function is_whole_number(value, lowest)
    return type(value) == "number" and math.tointeger(value) and value >= lowest
  end

  local function is_inside(path)
    if type(path) ~= "string" or path == "" or path:find("[\\:\0]") or path:sub(1, 1) == "/" then return false end
    for part in path:gmatch("[^/]+") do
      if part == ".." or part == "." then return false end
    end
    return path:sub(-1) ~= "/"
  end

  local function check_artifact(where, artifact)
    if type(artifact) ~= "table" or type(artifact.name) ~= "string" then
      core.fail("%s: an artifact has no name. %s", where, REMEDY)
    end
    local name = artifact.name
    if not is_inside(artifact.path) then
      core.fail("%s: %s: its path leads out of the folder. %s", where, name, REMEDY)
    end
    if type(artifact.sha256) ~= "string" or not artifact.sha256:match("^" .. ("%x"):rep(64) .. "$") then
      core.fail("%s: %s: sha256 is no SHA-256. %s", where, name, REMEDY)
    end
    artifact.start_frames = artifact.start_frames or 0
    if not is_whole_number(artifact.start_frames, 0) then
      core.fail("%s: %s: start_frames = %s makes no sense. %s", where, name, tostring(artifact.start_frames), REMEDY)
    end
    if artifact.frames ~= nil and not is_whole_number(artifact.frames, 0) then
      core.fail("%s: %s: frames = %s makes no sense. %s", where, name, tostring(artifact.frames), REMEDY)
    end
  end

  local function check(where, found)
    local bounce = found.bounce
    if type(found.id) ~= "string" or not is_whole_number(found.revision, 1) or type(bounce) ~= "table" then
      core.fail("%s: id, revision or bounce is missing. %s", where, REMEDY)
    end
    if type(bounce.name) ~= "string" or not is_whole_number(bounce.sample_rate_hz, 1) then
      core.fail("%s: bounce: name or sample_rate_hz is missing. %s", where, REMEDY)
    end
    if type(found.artifacts) ~= "table" then core.fail("%s: artifacts is missing. %s", where, REMEDY) end
    local names = {}
    for _, artifact in ipairs(found.artifacts) do
      check_artifact(where, artifact)
      if names[artifact.name] then core.fail("%s: %s stands there twice. %s", where, artifact.name, REMEDY) end
      names[artifact.name] = true
    end
  end

  -- What makes two folders the same: every artifact's name and digest. A folder that was published again is the same.
  local function content_of(found)
    local lines = {}
    for _, artifact in ipairs(found.artifacts) do lines[#lines + 1] = artifact.name .. " " .. artifact.sha256 end
    table.sort(lines)
    return sha256.hex(found.id .. "\n" .. table.concat(lines, "\n"))
  end

  -- The manifest of `folder`, checked, with `content` added. Fails with one line.
  function manifest.read(folder)
    local where = folder .. "/manifest.json"
    local text = core.read_file(where, MAX_BYTES)
    if not text then core.fail("%s can't be read. Is its disk there?", where) end
    local ok, found = pcall(json.decode, text)
    if not ok or type(found) ~= "table" then
      core.fail("%s is damaged (%s). %s", where, ok and "no object" or tostring(found), REMEDY)
    end
    local schema = found.schema or SCHEMA
    if not is_whole_number(schema, 1) then core.fail("%s: schema = %s is none. %s", where, tostring(schema), REMEDY) end
    if schema > SCHEMA then
      core.fail("%s: schema = %d is newer than these scripts know. Run `dawbridge install-scripts`.", where, schema)
    end
    check(where, found)
    found.content = content_of(found)
    return found
  end

  -- When the folder came back, without a check: "" where that can't be read.
  function manifest.created_at(folder)
    local text = core.read_file(folder .. "/manifest.json", MAX_BYTES)
    local ok, found = pcall(json.decode, text or "")
    if ok and type(found) == "table" and type(found.created_at) == "string" then return found.created_at end
    return ""
  end

  local function check_audio(found, artifact, path)
    local facts = wav.facts(path)
    if not facts then core.fail("%s is no whole WAV file. %s", path, REMEDY) end
    local rate, frames = found.bounce.sample_rate_hz, artifact.frames
    if facts.rate_hz ~= rate or (frames and facts.frames ~= frames) then
      core.fail("%s has changed since it was made (%d frames at %d Hz). %s", path, facts.frames, facts.rate_hz, REMEDY)
    end
    artifact.frames = facts.frames
    return facts.bytes
  end

  -- Fails with one line unless all files are there and as they were made. Sets each audio artifact's `frames`, and
  -- each MIDI artifact's `bytes` (its content).
  function manifest.check_files(folder, found)
    local left = HASHED_BYTES_IN_ALL
    for _, artifact in ipairs(found.artifacts) do
      local path = folder .. "/" .. artifact.path
      if not core.exists(path) then core.fail("%s is missing. %s", path, REMEDY) end
      local bytes = artifact.kind == "audio" and check_audio(found, artifact, path) or 0
      local is_hashed = artifact.kind == "midi" or (artifact.kind == "audio" and bytes <= math.min(HASHED_BYTES, left))
      if is_hashed then
        local text = core.read_file(path)
        if not text then core.fail("%s can't be read. %s", path, REMEDY) end
        if sha256.hex(text) ~= artifact.sha256 then
          core.fail("%s has changed since it was made. %s", path, REMEDY)
        end
        left = left - #text
        if artifact.kind == "midi" then artifact.bytes = text end
      end
    end
  end

  return manifest
end
