data "aws_partition" "current" {}

locals {
  sidecar = "${coalesce(var.release, ".")}/model-sidecar-${var.architecture}.zip"
  handler = "${coalesce(var.release, ".")}/model-handler-${var.architecture}.zip"

  image     = var.image_uri != null
  model_uri = var.model_uri == null && !local.image ? "file:///var/task/sample/wine.onnx" : var.model_uri

  s3     = startswith(coalesce(local.model_uri, "file:"), "s3://")
  path   = local.s3 ? trimprefix(local.model_uri, "s3://") : "/"
  bucket = "arn:${data.aws_partition.current.partition}:s3:::${split("/", local.path)[0]}"
  key    = join("/", slice(split("/", local.path), 1, length(split("/", local.path))))
  folder = join("", regexall("^.*/", local.key))
  prefix = var.model_prefix == null ? local.folder : var.model_prefix

  # layer/build/runtimes.py writes the runtimes that provider 5.90 knows.
  runtimes = ["provided.al2023", "python3.12", "python3.13", "nodejs22.x", "java21", "ruby3.3"]
}

resource "aws_lambda_layer_version" "sidecar" {
  count = local.image ? 0 : 1

  layer_name               = "${var.name}-model-sidecar"
  filename                 = local.sidecar
  source_code_hash         = filebase64sha256(local.sidecar)
  compatible_architectures = [var.architecture]
  compatible_runtimes      = local.runtimes
}

resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "function" {
  name_prefix        = substr("${var.name}-", 0, 38)
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

# Each permission only where its feature is on.
data "aws_iam_policy_document" "function" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function.arn}:*"]
  }

  dynamic "statement" {
    for_each = local.s3 ? [1] : []
    content {
      actions   = ["s3:GetObject", "s3:GetObjectVersion"]
      resources = ["${local.bucket}/${local.prefix}*"]
    }
  }

  dynamic "statement" {
    for_each = local.s3 ? [1] : []
    content {
      actions   = ["s3:ListBucket", "s3:ListBucketVersions"]
      resources = [local.bucket]

      condition {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = ["${local.prefix}*"]
      }
    }
  }

  dynamic "statement" {
    for_each = local.s3 && var.kms_key_arn != null ? [1] : []
    content {
      actions   = ["kms:Decrypt"]
      resources = [var.kms_key_arn]
    }
  }

  dynamic "statement" {
    for_each = var.metrics == "cloudwatch" ? [1] : []
    content {
      actions   = ["cloudwatch:PutMetricData"]
      resources = ["*"]

      condition {
        test     = "StringEquals"
        variable = "cloudwatch:namespace"
        values   = [lookup(var.environment, "MODEL_METRICS_NAMESPACE", "ModelSidecar")]
      }
    }
  }
}

resource "aws_iam_role_policy" "function" {
  name   = "function"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.function.json
}

resource "aws_lambda_function" "model" {
  function_name    = var.name
  package_type     = local.image ? "Image" : "Zip"
  image_uri        = var.image_uri
  filename         = local.image ? null : local.handler
  source_code_hash = local.image ? null : filebase64sha256(local.handler)
  handler          = local.image ? null : "bootstrap"
  runtime          = local.image ? null : "provided.al2023"
  architectures    = [var.architecture]
  memory_size      = var.memory_size
  timeout          = var.timeout
  role             = aws_iam_role.function.arn
  layers           = aws_lambda_layer_version.sidecar[*].arn
  publish          = true

  environment {
    variables = merge(
      local.model_uri == null ? {} : { MODEL_URI = local.model_uri },
      { MODEL_NAME = "model", MODEL_METRICS = var.metrics, MODEL_HANDLER = "attach" },
      var.environment,
    )
  }

  dynamic "snap_start" {
    for_each = var.snapstart ? [1] : []
    content {
      apply_on = "PublishedVersions"
    }
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.function.name
  }

  depends_on = [aws_iam_role_policy.function]
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.model.function_name
  function_version = coalesce(var.alias_version, aws_lambda_function.model.version)

  dynamic "routing_config" {
    for_each = length(var.weights) == 0 ? [] : [1]
    content {
      additional_version_weights = var.weights
    }
  }
}

resource "aws_lambda_provisioned_concurrency_config" "live" {
  count = var.provisioned_concurrency == 0 ? 0 : 1

  function_name                     = aws_lambda_function.model.function_name
  qualifier                         = aws_lambda_alias.live.name
  provisioned_concurrent_executions = var.provisioned_concurrency
}

resource "aws_lambda_function_url" "live" {
  count = var.function_url ? 1 : 0

  function_name      = aws_lambda_function.model.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "AWS_IAM"
}
