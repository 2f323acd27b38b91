"""A toy pool source: the rows' own images, left and right exchanged."""

from synthgain.pools.conditions import sample_seeds
from synthgain.pools.known import copier
from synthgain.pools.shards import Drawn, ShardRequest, shard_bounds


def draw(request: ShardRequest) -> Drawn:
    source, _ = request.rows_of()
    rows = request.rows()
    inside = slice(*shard_bounds(len(rows), request.shard, request.shards))
    images, _ = copier(request, rows.iloc[inside], sample_seeds(rows, request.keys)[inside])
    table = request.table_of(rows).iloc[inside].reset_index(drop=True)
    return Drawn(images[:, :, ::-1].copy(), table, source.columns)
