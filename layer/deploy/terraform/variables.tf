variable "name" {
  description = "Name of the function; the layer, role and log group derive theirs."
  type        = string
}

variable "release" {
  description = "Folder with model-sidecar-ARCH.zip and model-handler-ARCH.zip, as `make release` leaves them."
  type        = string
  default     = null

  validation {
    condition     = (var.release == null) != (var.image_uri == null)
    error_message = "either release or image_uri is given."
  }
}

variable "image_uri" {
  description = "Image of layer/deploy/Dockerfile in ECR, instead of a release."
  type        = string
  default     = null
}

variable "snapstart" {
  description = "Takes a snapshot of each version after Init. The image needs the Dockerfile's label."
  type        = bool
  default     = false

  validation {
    condition     = !var.snapstart || (var.image_uri != null && var.provisioned_concurrency == 0)
    error_message = "SnapStart needs image_uri, and AWS rejects it with provisioned concurrency."
  }
}

variable "architecture" {
  description = "Architecture of the function."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture is x86_64 or arm64."
  }
}

variable "model_uri" {
  description = "Model, manifest or repository, s3:// or file://; by default the sample model in the handler's zip, or the model in the image."
  type        = string
  default     = null

  validation {
    condition     = var.model_uri == null || can(regex("^(s3://[^/]+/.+|file:///.+)$", var.model_uri))
    error_message = "model_uri is s3://BUCKET/KEY or file:///PATH."
  }
}

variable "model_prefix" {
  description = "Prefix of all keys that the function may read; by default the folder of model_uri."
  type        = string
  default     = null
}

variable "kms_key_arn" {
  description = "Customer managed key of the model's objects."
  type        = string
  default     = null
}

variable "memory_size" {
  description = "Memory in MB; 1,769 is one vCPU."
  type        = number
  default     = 1769
}

variable "timeout" {
  description = "Maximum time of an invocation in seconds."
  type        = number
  default     = 30
}

variable "metrics" {
  description = "Destination of the metrics: cloudwatch, emf or none."
  type        = string
  default     = "cloudwatch"

  validation {
    condition     = contains(["cloudwatch", "emf", "none"], var.metrics)
    error_message = "metrics is cloudwatch, emf or none."
  }
}

variable "environment" {
  description = "Further variables of the sidecar, such as MODEL_REQUIRED."
  type        = map(string)
  default     = {}
}

variable "function_url" {
  description = "Makes a function URL, which is called with IAM authorization."
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30
}

variable "provisioned_concurrency" {
  description = "Provisioned concurrency of the alias; 0 is none."
  type        = number
  default     = 0
}

variable "weights" {
  description = "Weights of further versions on the alias, such as { \"7\" = 0.1 }. AWS rejects them with provisioned concurrency."
  type        = map(number)
  default     = {}

  validation {
    condition     = length(var.weights) == 0 || var.provisioned_concurrency == 0
    error_message = "an alias has weights or provisioned concurrency; set provisioned_concurrency = 0 or weights = {}."
  }
}

variable "alias_version" {
  description = "Version that the alias names; by default the newest."
  type        = string
  default     = null
}

variable "monitoring" {
  description = "Makes the dashboard and the alarms of docs/monitoring.md."
  type        = bool
  default     = true
}

variable "monitoring_values" {
  description = "Thresholds of the alarms and prices of the dashboard that are not the defaults, such as { ErrorPercent = 5 }."
  type        = map(string)
  default     = {}

  validation {
    condition = length(setsubtract(keys(var.monitoring_values), [
      "ErrorPercent", "LatencyP99Milliseconds", "StalenessSeconds", "VersionLagSeconds", "ConfidenceP10", "DriftIndex",
      "MemoryPercent", "PostRuntimeExtensionsMilliseconds", "PricePerGbSecond", "PricePerMillionRequests",
    ])) == 0
    error_message = "monitoring_values has thresholds and prices of docs/monitoring.md only."
  }
}

variable "alarm_topic_arn" {
  description = "SNS topic that the alarms notify."
  type        = string
  default     = null
}
