-- KEYS: record, clock, meta, counts, events, due, live, all.
-- ARGV: 1 clock, 2 incarnation, 3 stamp of the entry in the subject index or nothing,
-- 4 tenant, 5 id, 6 data key, 7 lifetime, 8 idle timeout, 9 created, updated, last active
-- and expires (12) of an imported session or nothing, 13 body, 14 nonce, 15 event.
-- Returns {0, time}, {1, time, record} of the record that holds the key, or {2} when the
-- stamp is too old.
local now, wall, us = clock(KEYS[2], ARGV[1])
local holder = redis.call('GET', KEYS[1])
if holder then
  return {1, now, holder}
end
if too_old(ARGV[3], us) then
  return {2}
end
local created, updated, active, expires = now, now, now, now + tonumber(ARGV[7])
if ARGV[9] ~= '' then
  created, updated, active, expires = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
end
local idle = tonumber(ARGV[8])
local member = ARGV[4] .. '\0' .. ARGV[5]
append(KEYS[3], KEYS[5], now, us, ARGV[14], 15)
keep(KEYS[2], now, wall, us)
local h = struct.pack(layout, ARGV[2], 1, created, updated, active, expires, idle, 0)
redis.call('SET', KEYS[1], h .. ARGV[13])
redis.call('ZADD', KEYS[6], deadline(active, expires, idle), member)
redis.call('ZADD', KEYS[7], 0, place(created, ARGV[5]))
redis.call('ZADD', KEYS[8], 0, member)
count(KEYS[4], 'a:' .. ARGV[4], 1)
if ARGV[6] ~= '0' then
  count(KEYS[4], 'k:' .. ARGV[6], 1)
end
return {0, now}
