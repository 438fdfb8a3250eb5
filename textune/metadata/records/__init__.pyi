from .problems import BadEntries as BadEntries
from .read import ReadDocuments as ReadDocuments
from .read import metadata_columns as metadata_columns
from .read import read_document_rows as read_document_rows
from .read import read_documents as read_documents
