-- Repairs the entries of a subject. KEYS: pending, live, ended. ARGV: groups of three.
--   live, entry, place    the record is there: the pending entry becomes a place
--   ended, entry, place   the same for a record that has ended
--   end, place, nothing   the record has ended: the place moves
--   drop, place, nothing  the record is gone
--   prune, entry, stamp   nothing came of the pending entry with this stamp
--   release, entry, nothing   the same, says who made it
for i = 1, #ARGV, 3 do
  local act, what, to = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if act == 'live' or act == 'ended' then
    if redis.call('HDEL', KEYS[1], what) == 1 then
      redis.call('ZADD', act == 'live' and KEYS[2] or KEYS[3], 0, to)
    end
  elseif act == 'end' then
    if redis.call('ZREM', KEYS[2], what) == 1 then
      redis.call('ZADD', KEYS[3], 0, what)
    end
  elseif act == 'drop' then
    redis.call('ZREM', KEYS[2], what)
    redis.call('ZREM', KEYS[3], what)
  elseif act == 'release' or redis.call('HGET', KEYS[1], what) == to then
    redis.call('HDEL', KEYS[1], what)
  end
end
return 0
