SELECT s.*
        FROM sessiond.session s
        WHERE s.tenant = @tenant {subject} AND {class}
          AND (s.created_at, s.id) < (@before_at::bigint, @before_id) AND s.created_at >= @from_at::bigint
