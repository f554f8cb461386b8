# An image of layer/deploy/Dockerfile with its model, which starts from a snapshot.
module "model" {
  source    = "../.."
  name      = "fraud"
  image_uri = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/fraud:1"
  snapstart = true
}
