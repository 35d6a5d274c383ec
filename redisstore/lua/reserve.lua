-- Enters a session that is about to be added to a subject. KEYS: pending, live.
-- ARGV: 1 entry, 2 largest number of sessions or 0, 3 the server's time when the index
-- was last looked through or nothing.
-- Returns the stamp of the entry, 0 when there is no place, or -1 when the look is too old.
--
-- Pending entries count for 35 seconds: from 30 on nothing is created under them. Older
-- ones with a record were settled when the index was looked through; that was 4
-- seconds ago at most, so none of those that didn't have one then can have one now.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local most = tonumber(ARGV[2])
if most > 0 and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  local taken = redis.call('ZCARD', KEYS[2])
  if ARGV[3] == '' then
    taken = taken + redis.call('HLEN', KEYS[1])
  else
    if now - tonumber(ARGV[3]) > 4000 then
      return -1
    end
    for _, stamp in ipairs(redis.call('HVALS', KEYS[1])) do
      if now - tonumber(stamp) <= 35000 then
        taken = taken + 1
      end
    end
  end
  if taken >= most then
    return 0
  end
end
redis.call('HSET', KEYS[1], ARGV[1], now)
return now
