-- How many sessions of a subject are live, and how many are not written down as
-- ended. The difference may still be touched by a writer that read its clock in
-- time. taken tells whether the key has a record.
SELECT
  EXISTS (SELECT FROM sessiond.session s WHERE s.tenant = @tenant AND s.id = @id) AS taken,
  count(*) FILTER (WHERE t.now < least(s.expires_at, s.last_active_at + nullif(s.idle_timeout, 0))) AS live,
  count(s.filed_at) AS open
FROM (SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now) t
LEFT JOIN sessiond.session s
  ON s.tenant = @tenant AND s.subject = @subject AND s.subject <> '' AND s.ended_at IS NULL
