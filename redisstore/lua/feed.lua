-- Part of the scripts that change records.

-- append adds the events, ARGV from a place on, to the feed. It comes first of all writes,
-- since it is the one that could be refused. Entries are named by their number and the
-- server's time in microseconds.
local function append(meta, events, now, us, nonce, from)
  if from > #ARGV then
    return
  end
  local n = tonumber(redis.call('HGET', meta, 'n') or 0)
  for i = from, #ARGV do
    n = n + 1
    redis.call('XADD', events, string.format('%d-%d', n, us), 't', now, 'c', nonce, 'e', ARGV[i])
  end
  redis.call('HSET', meta, 'n', n, 'c', nonce)
end

-- count moves a counter, which is there only while it is not zero.
local function count(counts, name, by)
  if redis.call('HINCRBY', counts, name, by) == 0 then
    redis.call('HDEL', counts, name)
  end
end

-- place is where a record is in lists. As bytes, places order by creation, then ID.
local function place(created, id)
  return string.format('%015d', created) .. id
end

-- too_old reports whether an entry in the subject index no longer holds.
local function too_old(stamp, us)
  return stamp ~= '' and math.floor(us / 1000) - tonumber(stamp) > 30000
end
