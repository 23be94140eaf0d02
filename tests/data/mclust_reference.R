# Writes mclust_reference.json: what mclust's EM reaches from fixed hard labels, for the
# covariance models and the prior that xem shares with it. Run where mclust is installed:
#   Rscript mclust_reference.R
suppressMessages(library(mclust))

number <- function(x) format(as.vector(x), digits = 17, trim = TRUE, scientific = TRUE)
array_of <- function(x) paste0("[", paste(number(x), collapse = ", "), "]")
entry <- function(name, value) paste0("\"", name, "\": ", value)

sets <- list(
  iris = list(file = "iris.csv", columns = 1:4, labels = function(x) rep(1:3, each = 50)),
  faithful = list(file = "faithful.csv", columns = 1:2, labels = function(x) 1 + (x[, 2] > 70))
)
closed <- c("EII", "VII", "EEI", "EVI", "VVI", "EEE", "EEV", "EVV", "VVV")
iterated <- c("VEI", "VEE", "VEV", "EVE", "VVE")
control <- emControl(tol = c(1e-13, 1e-13), itmax = c(100000, 100000), eps = 0)
cases <- c()
for (set in names(sets)) {
  x <- as.matrix(read.csv(sets[[set]]$file)[, sets[[set]]$columns])
  z <- unmap(sets[[set]]$labels(x))
  for (model in c(closed, iterated)) for (with_prior in c(FALSE, TRUE)) {
    if (with_prior && model %in% c("EVI", "EVV", "EEV", iterated)) next
    prior <- if (with_prior) priorControl() else NULL
    fit <- me(data = x, modelName = model, z = z, prior = prior, control = control)
    sigma <- fit$parameters$variance$sigma
    first <- mstep(data = x, modelName = model, z = z, prior = prior, control = control)
    first <- array_of(aperm(first$parameters$variance$sigma, c(2, 1, 3)))
    k <- ncol(z); d <- ncol(x)
    fields <- c(
      entry("data", paste0("\"", set, "\"")), entry("model", paste0("\"", model, "\"")),
      entry("prior", if (with_prior) "\"fraley-raftery\"" else "null"),
      entry("labels", array_of(max.col(z) - 1)),
      entry("loglik", number(fit$loglik)),
      entry("n_parameters", nMclustParams(model, d, k)),
      entry("bic", number(-bic(model, fit$loglik, nrow(x), d, k))),
      entry("weights", array_of(fit$parameters$pro)),
      entry("loc", array_of(fit$parameters$mean)),
      entry("covariance", array_of(aperm(sigma, c(2, 1, 3)))),
      if (model %in% iterated) entry("first_covariance", first))
    cases <- c(cases, paste0(" {", paste(fields, collapse = ",\n  "), "}"))
  }
}
meta <- paste0("{\"program\": \"R ", getRversion(), ", mclust ", packageVersion("mclust"), "\",\n\"cases\": [\n")
writeLines(paste0(meta, paste(cases, collapse = ",\n"), "\n]}"), "mclust_reference.json")
