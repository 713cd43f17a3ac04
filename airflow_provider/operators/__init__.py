"""One operator for each operation; their arguments are the fields of the operation's request."""

from airflow_provider.operators.draft import (
    DatasetAddOperator,
    DatasetCheckOperator,
    DatasetCreateOperator,
    DatasetExternalOperator,
    DatasetRemoveOperator,
    DatasetSyncOperator,
    DatasetTransformOperator,
)
from airflow_provider.operators.upkeep import (
    DatasetCopyOperator,
    DatasetGcOperator,
    DatasetRepackOperator,
    DatasetRepairOperator,
    DatasetUndeleteOperator,
)
from airflow_provider.operators.version import (
    DatasetApproveOperator,
    DatasetBuildOperator,
    DatasetDeleteOperator,
    DatasetFinalizeOperator,
    DatasetGetOperator,
    DatasetPublishOperator,
    DatasetSquashOperator,
    DatasetUploadOperator,
    DatasetVerifyOperator,
)

__all__ = [
    "DatasetAddOperator",
    "DatasetApproveOperator",
    "DatasetBuildOperator",
    "DatasetCheckOperator",
    "DatasetCopyOperator",
    "DatasetCreateOperator",
    "DatasetDeleteOperator",
    "DatasetExternalOperator",
    "DatasetFinalizeOperator",
    "DatasetGcOperator",
    "DatasetGetOperator",
    "DatasetPublishOperator",
    "DatasetRemoveOperator",
    "DatasetRepackOperator",
    "DatasetRepairOperator",
    "DatasetSquashOperator",
    "DatasetSyncOperator",
    "DatasetTransformOperator",
    "DatasetUndeleteOperator",
    "DatasetUploadOperator",
    "DatasetVerifyOperator",
]
