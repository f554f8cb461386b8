# Dashboard and alarms of layer/deploy, which `make monitoring` generates; docs/monitoring.md describes them.
locals {
  monitoring = merge(
    {
      ErrorPercent                      = 1
      LatencyP99Milliseconds            = 1000
      StalenessSeconds                  = 900
      VersionLagSeconds                 = 900
      ConfidenceP10                     = 0.5
      DriftIndex                        = 0.25
      MemoryPercent                     = 80
      PostRuntimeExtensionsMilliseconds = 100
      PricePerGbSecond                  = "0.0000166667"
      PricePerMillionRequests           = "0.20"
    },
    var.monitoring_values,
    {
      FunctionName = var.name
      Alias        = "live"
      ModelName    = lookup(var.environment, "MODEL_NAME", "model")
      Namespace    = lookup(var.environment, "MODEL_METRICS_NAMESPACE", "ModelSidecar")
      MemorySize   = var.memory_size
    },
  )
  alarms = {
    for id, alarm in jsondecode(templatefile("${path.module}/../alarms.json", local.monitoring)) : id => alarm
    if var.monitoring
  }
}

resource "aws_cloudwatch_dashboard" "model" {
  count = var.monitoring ? 1 : 0

  dashboard_name = var.name
  dashboard_body = templatefile("${path.module}/../dashboard.json", merge(local.monitoring, {
    Partition = split(":", aws_lambda_function.model.arn)[1]
    Region    = split(":", aws_lambda_function.model.arn)[3]
    AccountId = split(":", aws_lambda_function.model.arn)[4]
  }))
}

resource "aws_cloudwatch_metric_alarm" "model" {
  for_each = local.alarms

  alarm_name                            = each.value.AlarmName
  alarm_description                     = each.value.AlarmDescription
  alarm_actions                         = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
  ok_actions                            = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
  comparison_operator                   = each.value.ComparisonOperator
  threshold                             = tonumber(each.value.Threshold)
  evaluation_periods                    = each.value.EvaluationPeriods
  datapoints_to_alarm                   = each.value.DatapointsToAlarm
  treat_missing_data                    = each.value.TreatMissingData
  namespace                             = try(each.value.Namespace, null)
  metric_name                           = try(each.value.MetricName, null)
  period                                = try(each.value.Period, null)
  statistic                             = try(each.value.Statistic, null)
  extended_statistic                    = try(each.value.ExtendedStatistic, null)
  evaluate_low_sample_count_percentiles = try(each.value.EvaluateLowSampleCountPercentile, null)
  dimensions                            = try({ for one in each.value.Dimensions : one.Name => one.Value }, null)

  dynamic "metric_query" {
    for_each = try(each.value.Metrics, [])
    content {
      id          = metric_query.value.Id
      expression  = try(metric_query.value.Expression, null)
      label       = try(metric_query.value.Label, null)
      return_data = metric_query.value.ReturnData

      dynamic "metric" {
        for_each = try([metric_query.value.MetricStat], [])
        content {
          namespace   = metric.value.Metric.Namespace
          metric_name = metric.value.Metric.MetricName
          dimensions  = { for one in metric.value.Metric.Dimensions : one.Name => one.Value }
          period      = metric.value.Period
          stat        = metric.value.Stat
        }
      }
    }
  }
}
