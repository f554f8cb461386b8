# A function of your own, in any language: the layer, one variable, and permission to read the model.
locals {
  sidecar = "${path.module}/../../../../../dist/release/model-sidecar-x86_64.zip"
}

resource "aws_lambda_layer_version" "sidecar" {
  layer_name               = "model-sidecar"
  filename                 = local.sidecar
  source_code_hash         = filebase64sha256(local.sidecar)
  compatible_architectures = ["x86_64"]
}

resource "aws_lambda_function" "orders" {
  function_name = "orders"
  filename      = "orders.zip"
  handler       = "orders.handler"
  runtime       = "python3.13"
  memory_size   = 1769
  timeout       = 30
  role          = aws_iam_role.orders.arn
  layers        = [aws_lambda_layer_version.sidecar.arn]

  environment {
    variables = { MODEL_URI = "s3://my-models/fraud/model.onnx" }
  }
}

resource "aws_iam_role" "orders" {
  name = "orders"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "lambda.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "model" {
  name = "model"
  role = aws_iam_role.orders.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "s3:GetObject", Resource = "arn:aws:s3:::my-models/fraud/*" }]
  })
}
