"""What MLflow runs when it opens an exported folder; textune's own code lies in the folder, beside this file."""

from mlflow.models import set_model

from textune.exports.pyfunc import Pyfunc

set_model(Pyfunc())
