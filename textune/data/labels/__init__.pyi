from .checks import describe_alike as describe_alike
from .checks import look_alike as look_alike
from .encode import encode_labels as encode_labels
from .infer import infer_labels as infer_labels
from .map import LABEL as LABEL
from .map import LabelMap as LabelMap
from .names import given_names as given_names
from .sidebyside import side_by_side as side_by_side
