-- Part of the scripts that look at a record.

-- head reads what scripts decide on: 1 incarnation, 2 number of the write, 3 created,
-- 4 updated, 5 last active, 6 expires, 7 idle timeout, 8 ended (false: not written down).
local function head(key)
  return redis.call('HMGET', key, 'i', 'w', 'c', 'u', 'a', 'x', 't', 'e')
end

-- deadline is the earlier of the absolute and the idle deadline.
local function deadline(active, expires, idle)
  if idle > 0 then
    return math.min(expires, active + idle)
  end
  return expires
end
