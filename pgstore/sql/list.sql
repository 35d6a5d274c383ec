-- A stretch of a list: the records that match, and those two at which the number
-- looked at is @budget and one more. Records that are overdue but not written down as
-- ended match every status here, because a second look has to judge them.
WITH t AS MATERIALIZED (
  SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now
)
SELECT t.now, coalesce(s.n, 0) AS n, coalesce(s.match, false) AS match, {record}
FROM t
LEFT JOIN (
  SELECT *
  FROM (
    SELECT s.*,
      (@labels::jsonb IS NULL OR s.labels @> @labels::jsonb)
        AND least(s.expires_at, s.last_active_at + nullif(s.idle_timeout, 0)) < @expires_before::bigint
        AND CASE @status
          WHEN 'expired' THEN CASE WHEN s.ended_at IS NULL
            THEN least(s.expires_at, s.last_active_at + nullif(s.idle_timeout, 0)) <= (SELECT t.now FROM t)
            ELSE s.end_reason IN ('idle', 'absolute') END
          WHEN 'revoked' THEN s.end_reason NOT IN ('idle', 'absolute')
          ELSE true
        END AS match
    FROM (
      SELECT s.*, row_number() OVER (ORDER BY s.created_at DESC, s.id DESC) AS n
      FROM (
        {rows}
        ORDER BY created_at DESC, id DESC
        LIMIT 2001
      ) s
    ) s
  ) s
  WHERE s.n <= @budget::bigint + 1 AND (s.match OR s.n >= @budget::bigint)
  LIMIT @most::bigint
) s ON true
ORDER BY s.n
