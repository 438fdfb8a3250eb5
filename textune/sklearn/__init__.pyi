from .estimators import TextClassifier as TextClassifier
from .estimators import TextRegressor as TextRegressor
