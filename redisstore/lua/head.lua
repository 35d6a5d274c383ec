-- Part of the scripts that look at a record.

-- A record begins with its head: what scripts decide on.
local layout, size, active_at = '>c12i8i8i8i8i8i8i8', 68, 36

-- head reads the head of a record, or returns nothing if there is none.
local function head(record)
  if not record or record == '' then
    return nil
  end
  local h = {}
  h.incarnation, h.write, h.created, h.updated, h.active, h.expires, h.idle, h.ended = struct.unpack(layout, record)
  h.open = h.ended == 0 -- no end is written down
  return h
end

-- head_of is the same for the record of a key.
local function head_of(key)
  return head(redis.call('GETRANGE', key, 0, size - 1))
end

-- deadline is the earlier of the absolute and the idle deadline.
local function deadline(active, expires, idle)
  if idle > 0 then
    return math.min(expires, active + idle)
  end
  return expires
end
