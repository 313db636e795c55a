#!/usr/bin/env python3
"""A plan is run only when the verifier has signed it: the certificate as a file, seen from the command line."""

import unittest

from millrace_cli import MillraceTest

STEPS = {"train__steps": 2, "train__eval_every": 0}


class CertificateTest(MillraceTest):

    def verify(self, pipeline, *words, name="step.certificate"):
        result = self.call("verify", pipeline, "--out", self.path(name), *words)
        self.assertEqual(result.json["certificate"], self.path(name))
        return result

    def test_verify_writes_both_plans_with_hashes_and_all_checks(self):
        result = self.verify("digits_vit")
        text = open(self.path("step.certificate")).read()
        self.assertIn(result.json["plan_hash"], text)
        self.assertIn(result.json["evaluation"]["plan_hash"], text)
        for check in result.json["checks"]:
            self.assertEqual(text.count(f'name: "{check["name"]}"'), 2, check["name"])

    def test_run_takes_the_certificate_of_its_own_plan_and_keeps_it_in_the_run_folder(self):
        self.verify("digits_vit")
        self.train("digits_vit", "--certificate", self.path("step.certificate"), **STEPS)
        self.assertEqual(
            open(self.path("run", "certificate.textproto")).read(), open(self.path("step.certificate")).read())

    def test_run_without_one_verifies_by_itself_and_writes_the_same(self):
        self.verify("two_layer")
        self.train("two_layer", train__steps=2)
        self.assertEqual(
            open(self.path("run", "certificate.textproto")).read(), open(self.path("step.certificate")).read())

    def test_run_refuses_a_plan_that_the_certificate_does_not_cover(self):
        result = self.verify("digits_vit")
        for change, reason in (
            ({"parallel__zero__stage": 3}, "the schedule is another one"),
            ({"parallel__data": 4, "train__micro_batch": 25}, "made for 2 ranks, this plan has 4"),
            ({"train__eval_batch": 33}, "evaluation: plan"),
        ):
            refused = self.train("digits_vit", "--certificate", self.path("step.certificate"), code=2, **STEPS, **change)
            self.assertIn(reason, refused.json["error"]["message"])
        self.assertIn(result.json["plan_hash"], refused.err + text_of(self.path("step.certificate")))

    def test_run_refuses_a_certificate_that_is_damaged_or_of_another_verifier(self):
        self.verify("two_layer")
        text = text_of(self.path("step.certificate"))
        for old, new, reason in (
            ('name: "race"\n    ok: true', 'name: "race"\n    ok: false', "race failed"),
            ('name: "race"', 'name: "pace"', "lacks the checks race"),
            ("verifier: ", "verifier: 9", "of the verifier"),
            ("verifier: ", "verfier: ", "did you mean"),
        ):
            self.assertIn(old, text)
            file = self.write("bad.certificate", text.replace(old, new, 1))
            refused = self.train("two_layer", "--certificate", file, code=2, train__steps=2)
            self.assertIn(reason, refused.err)

    def test_a_missing_certificate_is_an_error_not_a_reason_to_verify(self):
        refused = self.train("two_layer", "--certificate", self.path("absent"), code=2, train__steps=2)
        self.assertIn("absent", refused.json["error"]["message"])


def text_of(path):
    with open(path) as file:
        return file.read()


if __name__ == "__main__":
    unittest.main()
