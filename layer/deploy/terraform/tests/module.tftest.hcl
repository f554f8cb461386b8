mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/fraud" }
  }
  mock_resource "aws_lambda_layer_version" {
    defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:layer:fraud-model-sidecar:1" }
  }
  mock_resource "aws_lambda_function" {
    defaults = {
      arn     = "arn:aws:lambda:eu-central-1:123456789012:function:fraud"
      version = "3"
    }
  }
}

variables {
  name    = "fraud"
  release = "tests/release"
}

run "a_name_is_enough" {
  assert {
    condition     = aws_lambda_function.model.environment[0].variables["MODEL_URI"] == "file:///var/task/sample/wine.onnx"
    error_message = "the sample model is the default"
  }
  assert {
    condition     = length(data.aws_iam_policy_document.function.statement) == 2
    error_message = "the sample model needs logs and metrics only"
  }
  assert {
    condition     = aws_lambda_function_url.live[0].authorization_type == "AWS_IAM"
    error_message = "the URL is not public"
  }
  assert {
    condition     = aws_lambda_alias.live.function_version == "3"
    error_message = "the alias names the newest version"
  }
}

run "an_architecture_applies_to_layer_and_function" {
  variables {
    architecture = "arm64"
  }
  assert {
    condition     = aws_lambda_function.model.architectures == tolist(["arm64"])
    error_message = "the function's architecture"
  }
  assert {
    condition     = aws_lambda_layer_version.sidecar[0].compatible_architectures == toset(["arm64"])
    error_message = "the layer's architecture"
  }
  assert {
    condition = alltrue([
      endswith(aws_lambda_layer_version.sidecar[0].filename, "/model-sidecar-arm64.zip"),
      endswith(aws_lambda_function.model.filename, "/model-handler-arm64.zip"),
    ])
    error_message = "the zips of the architecture"
  }
}

run "permissions_are_limited_to_the_models_folder" {
  variables {
    model_uri   = "s3://models/fraud/manifest.json"
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1"
  }
  assert {
    condition     = data.aws_iam_policy_document.function.statement[1].resources == toset(["arn:aws:s3:::models/fraud/*"])
    error_message = "objects below the folder of the model"
  }
  assert {
    condition     = one(data.aws_iam_policy_document.function.statement[2].condition).values == tolist(["fraud/*"])
    error_message = "the bucket's list below the folder of the model"
  }
  assert {
    condition     = data.aws_iam_policy_document.function.statement[3].resources == toset(["arn:aws:kms:eu-central-1:123456789012:key/1"])
    error_message = "the key of the objects"
  }
}

run "metrics_in_the_log_need_no_permission" {
  variables {
    metrics = "emf"
  }
  assert {
    condition     = length(data.aws_iam_policy_document.function.statement) == 1
    error_message = "logs only"
  }
}

run "weights_and_provisioned_concurrency_exclude_each_other" {
  command = plan

  variables {
    weights                 = { "2" = 0.1 }
    provisioned_concurrency = 1
  }
  expect_failures = [var.weights]
}

run "a_model_uri_has_a_scheme" {
  command = plan

  variables {
    model_uri = "models/fraud/model.onnx"
  }
  expect_failures = [var.model_uri]
}

run "dashboard_and_alarms_are_those_of_the_generated_files" {
  variables {
    monitoring_values = { ErrorPercent = "5" }
    alarm_topic_arn   = "arn:aws:sns:eu-central-1:123456789012:alarms"
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.model) == length(jsondecode(file("../alarms.json")))
    error_message = "an alarm for each entry of alarms.json"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.model["ErrorRate"].threshold == 5
    error_message = "the threshold is the given one"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.model["ErrorRate"].alarm_name == "fraud-model-error-rate"
    error_message = "the name has function and model"
  }
  assert {
    condition     = [for query in aws_cloudwatch_metric_alarm.model["ErrorRate"].metric_query : query.id if query.return_data] == ["result"]
    error_message = "one query returns data"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.model["LatencyP99"].extended_statistic == "p99"
    error_message = "a percentile"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.model["LatencyP99"].dimensions == tomap({ FunctionName = "fraud", ModelName = "model" })
    error_message = "dimensions are function and model"
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.model : alarm.alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"])])
    error_message = "each alarm notifies the topic"
  }
  assert {
    condition     = length(regexall("\\$\\{|%\\{", aws_cloudwatch_dashboard.model[0].dashboard_body)) == 0
    error_message = "the dashboard has no unset parameter"
  }
  assert {
    condition     = strcontains(aws_cloudwatch_dashboard.model[0].dashboard_body, "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:__function__-__model__-error-rate")
    error_message = "the dashboard's alarms are of the function's region and account"
  }
}

run "monitoring_is_optional" {
  variables {
    monitoring = false
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.model) + length(aws_cloudwatch_dashboard.model) == 0
    error_message = "neither alarms nor dashboard"
  }
}

run "values_have_the_names_of_parameters" {
  command = plan

  variables {
    monitoring_values = { ErrorRate = "5" }
  }
  expect_failures = [var.monitoring_values]
}

run "an_image_has_its_own_model" {
  variables {
    release   = null
    image_uri = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/fraud:1"
    snapstart = true
  }
  assert {
    condition     = aws_lambda_function.model.package_type == "Image" && length(aws_lambda_layer_version.sidecar) == 0
    error_message = "an image has no layers"
  }
  assert {
    condition     = !contains(keys(aws_lambda_function.model.environment[0].variables), "MODEL_URI")
    error_message = "the image's own variable names the model"
  }
  assert {
    condition     = aws_lambda_function.model.snap_start[0].apply_on == "PublishedVersions"
    error_message = "a snapshot of each version"
  }
  assert {
    condition     = aws_lambda_function.model.environment[0].variables["MODEL_HANDLER"] == "attach"
    error_message = "the sidecar is the runtime, under SnapStart as well"
  }
}

run "snapstart_needs_an_image" {
  command = plan

  variables {
    snapstart = true
  }
  expect_failures = [var.snapstart]
}

run "a_release_or_an_image" {
  command = plan

  variables {
    image_uri = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/fraud:1"
  }
  expect_failures = [var.release]
}
