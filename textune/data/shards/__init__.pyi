from .blocks import ShardStream as ShardStream
from .labelled import RowStream as RowStream
from .labelled import open_stream as open_stream
from .urls import told_of_secrets as told_of_secrets
