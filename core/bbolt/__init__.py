"""Files of bbolt, the store under etcd: read what an etcd wrote, write what an etcd can open.

Only what a snapshot needs: no transactions, no free list. ``format`` names the bytes, ``reader`` finds its
way through a file of any size with little memory, ``writer`` lays a new one out from sorted entries.
"""

from .format import PAGE_BYTES, DamagedDatabase
from .reader import Bucket, Database, Read
from .writer import BucketWriter, DatabaseWriter

__all__ = ["PAGE_BYTES", "Bucket", "BucketWriter", "DamagedDatabase", "Database", "DatabaseWriter", "Read"]
